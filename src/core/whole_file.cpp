#include "core/whole_file.hpp"

#include "core/error.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <random>
#include <utility>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;

const char* const suggestion = "choose a folder that you may write to, on a disk with room (--run-dir for a run)";
const std::string suffix = ".partial";
constexpr std::size_t longest_name = 255, added_to_name = 32;
constexpr std::time_t surely_locked = 60;  // seconds; a new file is locked sooner

[[noreturn]] void fail(const std::string& path, int fault) {
    throw Error(Exit::storage, fmt::format("cannot write {}: {}", path, std::strerror(fault)), suggestion);
}

// The final target of a chain of symbolic links. It need not exist.
fs::path followed(const std::string& path) {
    fs::path at = path;
    std::error_code code;
    for (int links = 0; fs::is_symlink(at, code); ++links) {
        if (links == 40) fail(path, ELOOP);
        at = at.parent_path() / fs::read_symlink(at, code);
    }
    return at;
}

std::string folder_of(const fs::path& path) {
    const std::string folder = path.parent_path().string();
    return folder.empty() ? "." : folder;
}

// The common beginning of the names of the partial files of one target.
std::string beginning_of(const fs::path& target) {
    return target.filename().string().substr(0, longest_name - added_to_name) + ".";
}

// Locks the open file. The lock ends with its process, and does not conflict with HDF5's own locks.
bool lock(int descriptor) {
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    return ::fcntl(descriptor, F_OFD_SETLK, &whole) == 0;
}

// A partial file is locked while its process lives. Where locks are not supported, all files stay.
void remove_stale(const fs::path& target) {
    const std::string beginning = beginning_of(target);
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(folder_of(target), code)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(beginning) || !name.ends_with(suffix)) continue;
        const int file = ::open(entry.path().c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat state = {};
        if (file >= 0 && ::fstat(file, &state) == 0 && S_ISREG(state.st_mode) &&
            std::time(nullptr) - state.st_mtime > surely_locked && lock(file))
            ::unlink(entry.path().c_str());
        if (file >= 0) ::close(file);
    }
}

std::string kind_of(mode_t mode) {
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

bool same_file(const struct stat& file, const std::string& path) {
    struct stat other = {};
    return ::stat(path.c_str(), &other) == 0 && other.st_dev == file.st_dev && other.st_ino == file.st_ino;
}

// The path below a directory that leads to `file`, also by a link; "" if there is none.
std::string found_below(const std::string& directory, const struct stat& file) {
    std::error_code code;
    for (fs::recursive_directory_iterator entry(directory, code), end; !code && entry != end; entry.increment(code))
        if (same_file(file, entry->path().string())) return entry->path().string();
    return "";
}

}  // namespace

PartialFile::PartialFile(const std::string& path) : path_(path), target_(followed(path).string()) {
    remove_stale(target_);
    std::random_device random;
    const fs::path folder = folder_of(target_);
    for (int attempt = 0; descriptor_ < 0; ++attempt) {
        name_ = (folder / fmt::format("{}{:08x}{:08x}{}", beginning_of(target_), random(), random(), suffix)).string();
        descriptor_ = ::open(name_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (descriptor_ < 0 && (errno != EEXIST || attempt == 100)) fail(path_, errno);
    }
    lock(descriptor_);
}

PartialFile::~PartialFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    ::unlink(name_.c_str());
}

void PartialFile::commit() {
    struct stat before = {};
    const bool replaces = ::stat(target_.c_str(), &before) == 0;
    require(!replaces || S_ISREG(before.st_mode), Exit::storage,
            fmt::format("cannot write {}: it is {}, not a regular file", path_, kind_of(before.st_mode)),
            "name another file");
    if (::fsync(descriptor_) != 0 || std::rename(name_.c_str(), target_.c_str()) != 0) fail(path_, errno);
    ::close(std::exchange(descriptor_, -1));
    flush_folder(folder_of(target_));
}

void flush_folder(const std::string& path) {
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    ::fsync(folder);
    ::close(folder);
}

bool flush_file(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    const bool done = ::fsync(file) == 0;
    const int fault = errno;
    ::close(file);
    errno = fault;
    return done;
}

void make_folder(const std::string& path, const char* what) {
    std::error_code code;
    std::vector<fs::path> parents;  // of the new folders
    for (fs::path at = fs::absolute(path).lexically_normal(); !fs::exists(at, code) && at.has_relative_path();
         at = at.parent_path())
        parents.push_back(at.parent_path());
    fs::create_directories(path, code);
    if (code)
        throw Error(Exit::storage, fmt::format("cannot make the {} {}: {}", what, path, code.message()), suggestion);
    for (const fs::path& parent : parents) flush_folder(parent.string());
}

void write_whole_file(const std::string& path, const std::string& text) {
    PartialFile file(path);
    for (std::size_t at = 0; at < text.size();) {
        const ssize_t count = ::write(file.descriptor(), text.data() + at, text.size() - at);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) fail(path, count < 0 ? errno : ENOSPC);
        at += static_cast<std::size_t>(count);
    }
    file.commit();
}

void require_regular_file(const std::string& path) {
    const auto fail = [&](const std::string& problem, const char* what_to_do) {
        throw Error(Exit::bad_file, path + ": " + problem, what_to_do);
    };
    struct stat state = {};
    if (::stat(path.c_str(), &state) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) fail("there is no such file", "check the path");
        fail(fmt::format("cannot be opened: {}", std::strerror(errno)), "check who may read it and its folder");
    }
    if (S_ISDIR(state.st_mode)) fail("this is a folder, not a file", "give the path of a file");
    if (!S_ISREG(state.st_mode))
        fail(fmt::format("this is {}, not a regular file", kind_of(state.st_mode)), "write it to a file first");
    // The path may lead to a FIFO by now. Opening it must not wait.
    const int file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) fail(fmt::format("cannot be opened: {}", std::strerror(errno)), "check who may read it");
    ::close(file);
}

void require_may_write(const NamedOutput& output) {
    const std::string& path = output.path;
    require(!path.empty(), Exit::usage, "no output file was named", fmt::format("add {} FILE", output.option));
    const std::string said = fmt::format("{} {}", output.option, path);
    struct stat state = {};
    if (::stat(path.c_str(), &state) != 0) {
        int fault = errno;
        const std::string folder = folder_of(followed(path));
        if (fault == ENOENT) fault = ::access(folder.c_str(), W_OK | X_OK) == 0 ? 0 : errno;
        require(fault == 0, Exit::storage, fmt::format("cannot write {}: {}", path, std::strerror(fault)),
                "choose a folder that exists and that you may write to");
        return;
    }
    require(S_ISREG(state.st_mode), Exit::usage,
            fmt::format("{}: this is {}, not a regular file", said, kind_of(state.st_mode)),
            "name a new file, or one that may be replaced");
    const bool of_kind = output.is_of_kind(path);
    std::error_code code;
    for (const std::string& input : output.inputs) {
        const std::string read = fs::is_directory(input, code) ? (of_kind ? "" : found_below(input, state)) : input;
        require(read.empty() || !same_file(state, read), Exit::usage,
                fmt::format("{} would overwrite the input{}", said, read == path ? "" : " " + read),
                "name another file");
    }
    require(state.st_size == 0 || output.overwrite || of_kind, Exit::usage,
            fmt::format("{}: this file exists already and is not {}", said, output.kind),
            "name another file, or add --overwrite to replace it");
}

}  // namespace spikefloss
