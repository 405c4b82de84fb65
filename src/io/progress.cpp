#include "io/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace spikefloss {
namespace {

std::string duration(double seconds) {
    const auto s = static_cast<long>(seconds);
    if (s < 60) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
    return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

// A loss that has grown without bound must not print thirty digits.
std::string loss_text(double loss) { return loss < 1e4 ? fmt::format("{:.4f}", loss) : fmt::format("{:.3e}", loss); }

// The present width of the terminal.
int columns() {
    winsize size{};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool understands_escape_codes() {
    const char* name = std::getenv("TERM");
    return !name || std::strcmp(name, "dumb") != 0;
}

}  // namespace

std::string bar_line(double done, const std::string& text, int columns) {
    constexpr int widest = 24, narrowest = 4;
    const auto room = static_cast<std::size_t>(std::max(0, columns - 1));  // some terminals wrap at the last column
    const int width = std::min(widest, static_cast<int>(room) - static_cast<int>(text.size()) - 3);
    std::string line;
    if (width >= narrowest) {
        const auto filled = static_cast<std::size_t>(std::clamp(done, 0.0, 1.0) * width);
        line = fmt::format("[{:#<{}}{:.<{}}] ", "", filled, "", static_cast<std::size_t>(width) - filled);
    }
    return (line + text).substr(0, room);
}

ProgressDisplay::ProgressDisplay(bool silent, std::int64_t total)
    : silent_(silent),
      // Under mpirun the standard output of a rank is always a terminal; its standard error is not.
      terminal_(!silent && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO) && understands_escape_codes()),
      total_(total),
      start_(std::chrono::steady_clock::now()),
      last_(start_ - std::chrono::seconds(1)) {}

ProgressDisplay::~ProgressDisplay() {
    if (drawn_) std::fputs("\n", stdout);
}

void ProgressDisplay::log_to(const std::string& path, const std::string& first_line) {
    if (silent_ || log_.is_open()) return;
    log_.clear();
    log_.open(path, std::ios::app);
    note(first_line);
}

void ProgressDisplay::start(std::int64_t done) {
    first_ = done;
    start_ = std::chrono::steady_clock::now();
}

void ProgressDisplay::clear() {
    if (drawn_) std::fputs("\r\033[K", stdout);
    drawn_ = false;
}

std::string ProgressDisplay::summary(const MetricsEntry& entry) const {
    std::string text;
    if (entry.report.flossing)
        text = fmt::format("flossing step {}", entry.floss_step);
    else
        text = fmt::format("step {}/{}", entry.report.step, total_);
    if (loss_) text += fmt::format("  loss {}", loss_text(*loss_));
    if (accuracy_) text += fmt::format("  accuracy {:.1f} %", 100.0 * *accuracy_);
    if (exponent_) text += fmt::format("  lambda_1 {:+.4f}", *exponent_);
    return text;
}

void ProgressDisplay::update(const MetricsEntry& entry) {
    if (entry.report.penalty) exponent_ = entry.report.penalty->spectrum.exponents[0];
    if (!entry.report.flossing) {
        loss_ = entry.report.outcome.loss;
        if (!std::isnan(entry.report.outcome.accuracy)) accuracy_ = entry.running_accuracy;
    }
    if (!terminal_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const double done = total_ > 0 ? static_cast<double>(entry.report.step) / static_cast<double>(total_) : 1.0;
    std::string left;
    if (entry.report.step > first_) {
        const double elapsed = std::chrono::duration<double>(now - start_).count();
        left = "  " +
               duration(elapsed / static_cast<double>(entry.report.step - first_) *
                        static_cast<double>(total_ - entry.report.step)) +
               " left";
    }
    clear();
    std::fputs(bar_line(done, summary(entry) + left, columns()).c_str(), stdout);
    std::fflush(stdout);
    drawn_ = true;
}

void ProgressDisplay::report(const MetricsEntry& entry) {
    if (silent_) return;
    std::string line = summary(entry);
    line += fmt::format("  |g| {:.3g}  rate {:.3f}  {:.0f} seq/s", entry.report.norms.global, entry.report.rate,
                        entry.sequences_per_second);
    if (entry.validation) line += "  " + score_text("validation", *entry.validation);
    if (entry.test) line += "  " + score_text("test", *entry.test);
    note(line);
    if (terminal_) return;
    std::puts(line.c_str());
    std::fflush(stdout);
}

void ProgressDisplay::say(const std::string& message) {
    if (silent_) return;
    note(message);
    clear();
    std::puts(message.c_str());
    std::fflush(stdout);
}

void ProgressDisplay::note(const std::string& message) {
    if (log_.is_open()) log_ << message << std::endl;
}

}  // namespace spikefloss
