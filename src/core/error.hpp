// The exception type of the program: the problem, its place, a suggestion, and the exit code of the process. User input
// is always checked, with require(). Internal assumptions are checked in debug builds, with SPIKEFLOSS_ASSERT.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace spikefloss {

// Exit codes of the program, listed for users in docs/exit_codes.md. A script that restarts the program needs only
// these. Kinds with the same code differ in their messages.
enum class Exit : int {
    success = 0,
    internal = 1,  // a defect of the program, or of a library call
    storage = 1,   // an output could not be written
    usage = 2,     // command line or config
    bad_file = 2,  // an input file is missing, damaged or does not fit
    numerics = 3,  // loss or state not finite, a factorisation failed
    lost = 75,     // a rank is lost or stuck; --resume continues from the last checkpoint
    stopped = 85,  // stopped by a signal after writing a checkpoint; --resume continues
};

// Text for a terminal: control characters of names and files become \xNN. A zero would end the text. An escape
// sequence would reach the terminal.
inline std::string printable(const std::string& text) {
    std::string shown;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F)
            shown += fmt::format("\\x{:02x}", byte);
        else
            shown += c;
    }
    return shown;
}

class Error : public std::runtime_error {
public:
    // problem: one sentence, what and where; suggestion: what the user can do (may be empty).
    Error(Exit code, const std::string& problem, const std::string& suggestion = "",
          std::source_location place = std::source_location::current())
        : std::runtime_error(printable(suggestion.empty() ? problem : problem + "\n  what to do: " + suggestion)),
          code_(code),
          file_(place.file_name()),
          line_(place.line()) {}

    Exit code() const { return code_; }
    // Where in the source the error was raised, for the log.
    std::string place() const { return fmt::format("{}:{}", file_, line_); }
    // True when every rank throws the same error, so that one rank may report it and all may leave in order.
    bool collective = false;

private:
    Exit code_;
    const char* file_;
    unsigned line_;
};

// The error that a user gets for std::bad_alloc.
inline Error out_of_memory() {
    return {Exit::usage, "no memory left",
            "use fewer neurons, a smaller batch, fewer exponents or a shorter horizon, or more ranks on more machines"};
}

// Throws Error(code, problem, suggestion) unless condition holds.
inline void require(bool condition, Exit code, const std::string& problem, const std::string& suggestion = "",
                    std::source_location place = std::source_location::current()) {
    if (!condition) throw Error(code, problem, suggestion, place);
}

}  // namespace spikefloss

#ifdef NDEBUG
#define SPIKEFLOSS_ASSERT(condition) ((void)0)
#else
#define SPIKEFLOSS_ASSERT(condition) \
    ::spikefloss::require(condition, ::spikefloss::Exit::internal, "assumption broken: " #condition)
#endif
