// The meetings of ranks, the roll call, and the guard thread for calls without a meeting.
#include "parallel/watchdog.hpp"

#include "core/error.hpp"
#include "core/stopwatch.hpp"
#include "parallel/mpi_communicator.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include <unistd.h>

namespace spikefloss {
namespace {

constexpr int ask_tag = 1, answer_tag = 2, meet_tag = 3;

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// Time between two checks of a thread that guards a call.
constexpr double tick_seconds = 0.25;

// How long the roll call waits for answers.
double roll_seconds(double limit) { return std::clamp(limit, 1.0, 5.0); }

// Prints the reason and ends the process. For threads that must not throw.
[[noreturn]] void end_stuck(const std::string& who, const std::string& problem) {
    const std::string text = fmt::format(
        "{}: error: {}\n  what to do: look at that machine, then continue from the last checkpoint with --resume\n",
        who, problem);
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
    _exit(static_cast<int>(Exit::lost));
}

std::string joined(const std::vector<std::string>& texts) {
    constexpr std::size_t most = 8;
    std::string all;
    for (std::size_t i = 0; i < std::min(most, texts.size()); ++i) all += (i ? ", " : "") + texts[i];
    return texts.size() > most ? fmt::format("{} and {} more", all, texts.size() - most) : all;
}

}  // namespace

TimeLimit::TimeLimit(const char* what) {
    if (Watchdog::default_seconds <= 0.0) return;
    thread_ = std::jthread([what, seconds = Watchdog::default_seconds](const std::stop_token& stop) {
        std::mutex mutex;
        std::condition_variable_any wake;
        std::unique_lock lock(mutex);
        for (Stopwatch passed; passed.seconds() < seconds;) {
            wake.wait_for(lock, stop, std::chrono::duration<double>(std::min(tick_seconds, seconds)),
                          [] { return false; });
            if (stop.stop_requested()) return;
        }
        char host[64] = "";
        gethostname(host, sizeof host - 1);
        end_stuck(
            "spikefloss",
            fmt::format("{} on {} has not returned for {:.0f} s: a rank does not start, or the machines cannot reach "
                        "each other",
                        what, host, seconds));
    });
}

Watchdog::Watchdog(MPI_Comm comm, double seconds) : seconds_(seconds) {
    constexpr int width = 64;
    if (!mpi_runs()) {
        char host[width] = "";
        gethostname(host, sizeof host - 1);
        hosts_.emplace_back(host);
        return;
    }
    check_mpi(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm, &size_), "MPI_Comm_size");
    if (seconds_ > 0.0 && size_ > 1) guard_ = std::jthread([this](const std::stop_token& stop) { guard(stop); });
    const Blocking blocking(this, "setting up the communicators");
    check_mpi(MPI_Comm_dup(comm, &comm_), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    check_mpi(MPI_Get_processor_name(host, &length), "MPI_Get_processor_name");
    std::vector<char> all(static_cast<std::size_t>(width * size_));
    check_mpi(MPI_Allgather(host, width, MPI_CHAR, all.data(), width, MPI_CHAR, comm_), "MPI_Allgather");
    for (auto name = all.begin(); name != all.end(); name += width) hosts_.emplace_back(&*name, strnlen(&*name, width));
    std::string others = names_of(comm_);
    const std::lock_guard lock(mutex_);
    others_ = std::move(others);
}

Watchdog::~Watchdog() {
    if (guard_.joinable()) {
        guard_.request_stop();
        guard_.join();
    }
    if (comm_ != MPI_COMM_NULL && mpi_runs()) MPI_Comm_free(&comm_);
}

void Watchdog::at(const std::string& place) {
    const std::lock_guard lock(mutex_);
    place_ = place;
}

std::string Watchdog::name_of(int rank) const { return fmt::format("rank {} ({})", rank, host_of(rank)); }

std::string Watchdog::names_of(MPI_Comm group) const {
    MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
    check_mpi(MPI_Comm_group(comm_, &all), "MPI_Comm_group");
    check_mpi(MPI_Comm_group(group, &some), "MPI_Comm_group");
    int size = 0;
    check_mpi(MPI_Group_size(some, &size), "MPI_Group_size");
    std::vector<std::string> names;
    for (int r = 0; r < size; ++r) {
        int rank = 0;
        check_mpi(MPI_Group_translate_ranks(some, 1, &r, all, &rank), "MPI_Group_translate_ranks");
        if (rank != rank_) names.push_back(name_of(rank));
    }
    MPI_Group_free(&all);
    MPI_Group_free(&some);
    return joined(names);
}

// A dissemination barrier. In round d every rank sends an empty message to the rank d places after it. After log2(size)
// rounds every rank knows that all have reached the barrier.
void Watchdog::meet(MPI_Comm group, int rank, int size, const char* call) {
    for (int d = 1; d < size; d *= 2) {
        MPI_Request requests[2];
        check_mpi(MPI_Irecv(nullptr, 0, MPI_BYTE, (rank - d + size) % size, meet_tag, group, &requests[0]),
                  "MPI_Irecv");
        check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, (rank + d) % size, meet_tag, group, &requests[1]), "MPI_Isend");
        poll(requests, 2, call);
    }
}

// Spins at first, then sleeps for at most 2 % of the time it has waited.
void Watchdog::poll(MPI_Request* requests, int count, const char* call) {
    constexpr int spins = 256;
    int done = 0;
    const auto test = [&] {
        check_mpi(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
        return done != 0;
    };
    for (int spin = 0; spin < spins; ++spin)
        if (test()) return;
    Stopwatch stopwatch;
    double answered = 0.0;
    for (;;) {
        for (int spin = 0; spin < spins; ++spin)
            if (test()) return;
        const double waited = stopwatch.seconds();
        if (waited > answered + 0.1) {
            answer(call);
            answered = waited;
        }
        if (seconds_ > 0.0 && waited > seconds_) {
            roll(waited, call, test);
            return;
        }
        if (waited > 2e-3) sleep(std::min(waited / 50.0, 1e-3));
    }
}

void Watchdog::waiting(double waited, const char* what) {
    if (size_ == 1 || failed_) return;  // failed: already reported; the process is about to end
    answer(what);
    if (seconds_ > 0.0 && waited > seconds_) roll(waited, what, [] { return false; });
}

// Answers every rank that calls the roll: this rank is alive, and this is the call in which it waits.
void Watchdog::answer(const char* call) {
    for (;;) {
        int asked = 0;
        MPI_Status status;
        check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, ask_tag, comm_, &asked, &status), "MPI_Iprobe");
        if (!asked) return;
        auto& [request, mine] = answers_.emplace_back();
        check_mpi(MPI_Recv(&mine.round, 1, MPI_INT, status.MPI_SOURCE, ask_tag, comm_, MPI_STATUS_IGNORE), "MPI_Recv");
        std::snprintf(mine.doing, sizeof mine.doing, "%s%s%s", call, place_.empty() ? "" : ", ", place_.c_str());
        check_mpi(MPI_Isend(&mine, sizeof mine, MPI_BYTE, status.MPI_SOURCE, answer_tag, comm_, &request), "MPI_Isend");
    }
}

// Asks all ranks for the call in which they wait, and stores their answers. True if the wait has ended meanwhile.
bool Watchdog::call_roll(const char* call, const std::function<bool()>& done, std::vector<std::string>& answers) {
    ++round_;
    answers.assign(static_cast<std::size_t>(size_), "");
    answers[static_cast<std::size_t>(rank_)] = fmt::format("{}{}{}", call, place_.empty() ? "" : ", ", place_);
    std::vector<MPI_Request> asked(static_cast<std::size_t>(size_), MPI_REQUEST_NULL);
    for (int r = 0; r < size_; ++r) {
        if (r == rank_) continue;
        check_mpi(MPI_Isend(&round_, 1, MPI_INT, r, ask_tag, comm_, &asked[static_cast<std::size_t>(r)]), "MPI_Isend");
    }
    int missing = size_ - 1;
    for (Stopwatch stopwatch; missing > 0 && stopwatch.seconds() < roll_seconds(seconds_); sleep(1e-3)) {
        if (done()) return true;
        answer(call);
        int came = 0;
        MPI_Status status;
        check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, answer_tag, comm_, &came, &status), "MPI_Iprobe");
        if (!came) continue;
        Answer theirs;
        check_mpi(MPI_Recv(&theirs, sizeof theirs, MPI_BYTE, status.MPI_SOURCE, answer_tag, comm_, MPI_STATUS_IGNORE),
                  "MPI_Recv");
        if (theirs.round != round_) continue;  // to an earlier roll call
        answers[static_cast<std::size_t>(status.MPI_SOURCE)] = theirs.doing;
        --missing;
    }
    return done();
}

void Watchdog::roll(double waited, const char* call, const std::function<bool()>& done) {
    std::vector<std::string> answers;
    if (call_roll(call, done, answers)) return;
    std::vector<std::string> lost, waiting;
    int speaker = rank_;
    for (int r = size_ - 1; r >= 0; --r) {
        const std::string& doing = answers[static_cast<std::size_t>(r)];
        if (doing.empty())
            lost.insert(lost.begin(), name_of(r));
        else
            waiting.insert(waiting.begin(), fmt::format("{}: {}", name_of(r), doing)), speaker = r;
    }
    // The first rank that is alive reports the error. The others wait 3 s for it.
    Stopwatch stopwatch;
    while (rank_ != speaker && stopwatch.seconds() < 3.0) {
        if (done()) return;
        answer(call);
        sleep(1e-2);
    }
    if (lost.empty())
        fail(fmt::format("the ranks have waited {:.0f} s for each other, though all are alive ({})", waited,
                         joined(waiting)),
             "if a step takes longer than this, raise watchdog.seconds (--watchdog); otherwise report it, with the log "
             "of the run directory");
    fail(
        fmt::format("{} {} lost or stuck: no answer, after the others had waited {:.0f} s ({})", joined(lost),
                    lost.size() == 1 ? "is" : "are", waited, joined(waiting)),
        "look at that machine (memory, GPU, network), then continue from the last checkpoint with --resume; if it only "
        "computes for longer than this, raise watchdog.seconds (--watchdog)");
}

void Watchdog::fail(const std::string& problem, const std::string& suggestion) {
    {
        const std::lock_guard lock(mutex_);
        problem_ = problem;
    }
    failed_ = true;
    throw Error(Exit::lost, problem, suggestion);
}

Watchdog::Blocking::Blocking(Watchdog* watchdog, const char* call, const std::string* met) : watchdog_(watchdog) {
    if (!watchdog_) return;
    outer_call_ = watchdog_->blocking_call_.exchange(call, std::memory_order_relaxed);
    outer_met_ = watchdog_->blocking_met_.exchange(met, std::memory_order_relaxed);
    watchdog_->depth_.fetch_add(1, std::memory_order_relaxed);
    watchdog_->blocked_.fetch_add(1, std::memory_order_release);
}

Watchdog::Blocking::~Blocking() {
    if (!watchdog_) return;
    watchdog_->blocking_call_.store(outer_call_, std::memory_order_relaxed);
    watchdog_->blocking_met_.store(outer_met_, std::memory_order_relaxed);
    watchdog_->depth_.fetch_sub(1, std::memory_order_relaxed);
    watchdog_->blocked_.fetch_add(1, std::memory_order_release);
}

// Ends the process when it has been in one blocking call for longer than the time limit, or has not ended by itself
// after an error that lost ranks have caused. mpirun then ends the others.
void Watchdog::guard(const std::stop_token& stop) {
    const auto tick = std::chrono::duration<double>(std::min(tick_seconds, seconds_ / 4.0));
    std::uint64_t seen = 0;
    Stopwatch unchanged;
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait_for(lock, stop, tick, [] { return false; });
        if (stop.stop_requested()) return;
        const std::uint64_t now = blocked_.load(std::memory_order_acquire) | (failed_ ? std::uint64_t{1} << 63 : 0);
        const bool inside = depth_.load(std::memory_order_relaxed) > 0 || failed_;
        if (now != seen || !inside) {
            seen = now;
            unchanged = Stopwatch();
            continue;
        }
        const double waited = unchanged.seconds();
        if (waited < (failed_ ? 20.0 : seconds_ + roll_seconds(seconds_))) continue;
        if (failed_) end_stuck(fmt::format("spikefloss [rank {}]", rank_), problem_);
        const std::string* met = blocking_met_.load();
        end_stuck(
            fmt::format("spikefloss [rank {}]", rank_),
            fmt::format("{}{}{} has not returned for {:.0f} s{}", blocking_call_.load(), place_.empty() ? "" : ", ",
                        place_, waited,
                        met ? fmt::format(", though all ranks had reached it: {} stopped in the middle of it", *met)
                            : fmt::format(": {} did not reach it, or stopped in the middle of it", others_)));
    }
}

}  // namespace spikefloss
