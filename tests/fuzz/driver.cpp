// Runs a fuzz target without coverage: mutations of seeds for some seconds.
//
//   fuzz_config SEED... [--seconds S] [--random N] [--one FILE]
//
// SEED: a file, or a folder with files. Every seed runs unchanged first. An input that crashes, hangs or ends in
// abort() is written to finding_<pid> in the working directory; --one runs such a file alone. The random numbers follow
// from N (default: the time), which is printed.
#include "fuzz/fuzz.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

constexpr unsigned limit = 60;  // seconds for one input; the probe of an HDF5 file may compute for 6
constexpr std::size_t longest = 1 << 20;

const Bytes* current = nullptr;  // the running input, for the signal handler
char finding_path[64];

// Only calls that are allowed in a signal handler.
void save_finding(int sign) {
    const int file = open(finding_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file >= 0 && current) (void)!write(file, current->data(), current->size());
    const char* text =
        sign == SIGALRM ? "finding: an input takes more than 60 s; it is in " : "finding: the input is in ";
    (void)!write(2, text, std::strlen(text));
    (void)!write(2, finding_path, std::strlen(finding_path));
    (void)!write(2, "\n", 1);
    signal(sign, SIG_DFL);
    raise(sign == SIGALRM ? SIGABRT : sign);
}

Bytes read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

double slowest = 0.0;  // seconds

void run(const Bytes& input) {
    current = &input;
    const auto begin = std::chrono::steady_clock::now();
    alarm(limit);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    alarm(0);
    slowest = std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

class Mutator {
public:
    Mutator(std::vector<Bytes> seeds, std::uint64_t random) : seeds_(std::move(seeds)), random_(random) {}

    Bytes next() {
        Bytes input = seeds_[below(seeds_.size())];
        for (std::size_t changes = 1 + below(below(4) == 0 ? 30 : 4); changes > 0; --changes) change(input);
        if (input.size() > longest) input.resize(longest);
        return input;
    }

private:
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }

    void change(Bytes& input) {
        const std::size_t at = below(input.size() + 1), more = 1 + below(8);
        const auto place = input.begin() + static_cast<std::ptrdiff_t>(at);
        const std::size_t end = std::min(input.size(), at + more);
        switch (below(9)) {
            case 0:  // a bit
                if (at < input.size()) input[at] ^= static_cast<std::uint8_t>(1u << below(8));
                break;
            case 1:  // a byte
                if (at < input.size()) input[at] = static_cast<std::uint8_t>(below(256));
                break;
            case 2:  // without some bytes
                input.erase(place, input.begin() + static_cast<std::ptrdiff_t>(end));
                break;
            case 3: {  // add some bytes of a seed
                const Bytes& seed = seeds_[below(seeds_.size())];
                const std::size_t from = below(seed.size()), to = std::min(seed.size(), from + 1 + below(64));
                input.insert(place, seed.begin() + static_cast<std::ptrdiff_t>(from),
                             seed.begin() + static_cast<std::ptrdiff_t>(to));
                break;
            }
            case 4: {  // repeat some of its own bytes
                const Bytes piece(place, input.begin() + static_cast<std::ptrdiff_t>(end));
                for (std::size_t times = 1 + below(below(8) == 0 ? 2000 : 3); times > 0; --times)
                    input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
                break;
            }
            case 5: {  // a number at the limit of its range
                static constexpr std::uint64_t edges[] = {0,
                                                          1,
                                                          0x7f,
                                                          0x80,
                                                          0xff,
                                                          0x7fff,
                                                          0xffff,
                                                          0x7fffffff,
                                                          0x80000000,
                                                          0xffffffff,
                                                          0x7fffffffffffffff,
                                                          0xffffffffffffffff};
                const std::uint64_t edge = edges[below(std::size(edges))];
                const std::size_t bytes = std::size_t{1} << below(4);
                for (std::size_t i = 0; i < bytes && at + i < input.size(); ++i)
                    input[at + i] = static_cast<std::uint8_t>(edge >> 8 * (below(2) ? i : bytes - 1 - i));
                break;
            }
            case 6: {  // a word that is special in a text format
                static constexpr const char* words[] = {
                    "nan",  "inf",  "-1",           "1e400", "1e-400", "[", "]",      "{",
                    "}",    "\"",   "\\u0000",      "\n",    "=",      ".", "\"\"\"", "99999999999999999999",
                    "null", "\xff", "\xe2\x80\xa8", "\r\n",  ":"};
                const std::string_view word = words[below(std::size(words))];
                input.insert(place, word.begin(), word.end());
                break;
            }
            case 7:  // the end is missing
                input.resize(at);
                break;
            default: {  // the beginning of one seed, the end of another
                const Bytes& seed = seeds_[below(seeds_.size())];
                const std::size_t from = below(seed.size() + 1);
                input.resize(at);
                input.insert(input.end(), seed.begin() + static_cast<std::ptrdiff_t>(from), seed.end());
            }
        }
    }

    std::vector<Bytes> seeds_;
    std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
    double seconds = 60.0;
    auto random = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    std::vector<Bytes> seeds;
    bool one = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--seconds" && has_value) {
            seconds = std::atof(argv[++i]);
        } else if (word == "--random" && has_value) {
            random = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--one" && has_value) {
            seeds = {read(argv[++i])};
            one = true;
        } else if (fs::is_directory(argv[i])) {
            std::vector<fs::path> paths;
            for (const auto& entry : fs::directory_iterator(argv[i])) paths.push_back(entry.path());
            std::sort(paths.begin(), paths.end());
            for (const fs::path& path : paths) seeds.push_back(read(path));
        } else {
            seeds.push_back(read(argv[i]));
        }
    }
    if (seeds.empty()) {
        std::fprintf(stderr, "usage: %s SEED... [--seconds S] [--random N] [--one FILE]\n", argv[0]);
        return 2;
    }
    std::snprintf(finding_path, sizeof finding_path, "finding_%d", static_cast<int>(getpid()));
    for (const int sign : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) signal(sign, save_finding);
    std::printf("%zu seeds, random numbers of %llu\n", seeds.size(), static_cast<unsigned long long>(random));
    std::fflush(stdout);
    for (const Bytes& seed : seeds) run(seed);
    Mutator mutator(seeds, random);
    std::uint64_t inputs = seeds.size();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(one ? 0.0 : seconds);
    for (; std::chrono::steady_clock::now() < end; ++inputs) run(mutator.next());
    std::printf("%llu inputs, no finding; the slowest took %.1f s\n", static_cast<unsigned long long>(inputs), slowest);
    return 0;
}
