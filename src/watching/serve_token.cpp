#include "watching/serve_token.hpp"

#include "config/schema.hpp"
#include "core/error.hpp"
#include "watching/socket.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace spikefloss {
namespace {

constexpr std::size_t longest_token = 4096;

ServeToken token_of_file(const std::string& path) {
    // A fifo without a writer would block.
    const Socket file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat facts {};
    const bool regular = file && ::fstat(file.get(), &facts) == 0 && S_ISREG(facts.st_mode);
    require(regular, Exit::usage,
            fmt::format("cannot read the token from serve.token_file = \"{}\": {}", path,
                        file ? "it is not a regular file" : std::strerror(errno)),
            "write at least 8 letters and digits into its first line: openssl rand -hex 16 > token; chmod 600 token");
    std::string text(longest_token, '\0');
    const ssize_t count = ::read(file.get(), text.data(), text.size());
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    ServeToken found{text.substr(0, text.find_first_of("\r\n")), ""};
    check_token(found.token, fmt::format("the first line of serve.token_file = \"{}\"", path));
    if (facts.st_mode & (S_IRGRP | S_IROTH))
        found.warning = fmt::format("other users can read the token in {}; chmod 600 {} prevents this", path, path);
    return found;
}

}  // namespace

ServeToken token_of(const ServeConfig& config, const std::vector<std::string>& assignments) {
    ServeToken found;
    const char* variable = std::getenv(token_variable);
    if (config.port == 0) {
        // Without a live page no token is needed.
    } else if (!config.token.empty()) {
        found.token = config.token;
    } else if (!config.token_file.empty()) {
        found = token_of_file(config.token_file);
    } else if (variable && *variable) {
        found.token = variable;
        check_token(found.token, fmt::format("the environment variable {}", token_variable));
    }
    if (std::any_of(assignments.begin(), assignments.end(), is_token_assignment))
        found.warning = fmt::format(
            "every user of this machine can see the token of --set serve.token=... in the list of processes (ps); "
            "serve.token_file, or the environment variable {}, hides it",
            token_variable);
    return found;
}

}  // namespace spikefloss
