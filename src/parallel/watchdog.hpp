// How long a rank waits for the others. Before every collective the ranks of its group meet: each polls until all have
// reached it. A rank that has waited longer than the time limit calls the roll: it asks all ranks. Ranks that wait
// answer. The error that ends the job names the ranks that did not answer. So a lost or stuck rank is never a hang.
//
// The meeting costs less than a microsecond (docs/parallelism.md) and leaves the collective itself to MPI's blocking
// call, which is twice as fast as its polled counterpart. If a rank stops in the middle of that call, a guard thread,
// which makes no MPI call, detects it. It also detects a rank that does not reach a call without a meeting, such as the
// calls that set up MPI.
// Time in which this process itself was suspended does not count (core/stopwatch.hpp).
#pragma once

#include <mpi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace spikefloss {

// Ends the process with Exit::lost if this object exists for longer than Watchdog::default_seconds. For calls during
// which ranks cannot exchange messages. what: the call, for the message.
class TimeLimit {
public:
    explicit TimeLimit(const char* what);

private:
    std::jthread thread_;
};

class Watchdog {
public:
    // The time limit outside a Session, from MPI_Init, before any config is read, to MPI_Finalize. main sets it to the
    // value of --watchdog, a Session to the value in its config.
    static inline double default_seconds = 600.0;

    // For all ranks of `comm`; if MPI does not run, for this process alone. seconds: the time limit, 0: none.
    // Collective.
    Watchdog(MPI_Comm comm, double seconds);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    double seconds() const { return seconds_; }
    // The current work of the ranks ("training step 12"), for messages.
    void at(const std::string& place);
    const std::string& host_of(int rank) const { return hosts_[static_cast<std::size_t>(rank)]; }
    // "rank 3 (node7)"
    std::string name_of(int rank) const;
    // The names of the ranks of `group` without this rank.
    std::string names_of(MPI_Comm group) const;

    // Returns when all ranks of `group` have made the same number of these calls. Throws Error(Exit::lost) with the
    // names of the lost ranks. call: the collective that follows, for messages.
    void meet(MPI_Comm group, int rank, int size, const char* call);
    // Call this several times a second in any other wait (for a device). `waited`: the seconds it has lasted.
    void waiting(double waited, const char* what);

    // Exists during a blocking MPI call, or work that makes some, so that the guard thread times it. met: names of the
    // ranks, which have all reached it; the caller keeps them. Null: any rank may be missing. Null watchdog: does
    // nothing.
    class Blocking {
    public:
        Blocking(Watchdog* watchdog, const char* call, const std::string* met = nullptr);
        ~Blocking();
        Blocking(const Blocking&) = delete;
        Blocking& operator=(const Blocking&) = delete;

    private:
        Watchdog* watchdog_;
        const char* outer_call_ = "";  // of the enclosing Blocking
        const std::string* outer_met_ = nullptr;
    };

private:
    // The answer of a rank to a roll call.
    struct Answer {
        int round = 0;
        char doing[156] = "";
    };

    void poll(MPI_Request* requests, int count, const char* call);
    void answer(const char* call);
    bool call_roll(const char* call, const std::function<bool()>& done, std::vector<std::string>& answers);
    void roll(double waited, const char* call, const std::function<bool()>& done);
    [[noreturn]] void fail(const std::string& problem, const std::string& suggestion);
    void guard(const std::stop_token& stop);

    MPI_Comm comm_ = MPI_COMM_NULL;
    int rank_ = 0, size_ = 1;
    double seconds_ = 0.0;
    std::string place_, others_ = "a rank";  // others_: the names of all others
    std::vector<std::string> hosts_;
    int round_ = 0;                                      // number of this rank's last roll call
    std::list<std::pair<MPI_Request, Answer>> answers_;  // sent; there are few, so they are kept
    std::atomic<std::uint64_t> blocked_ = 0;             // counts entries to and exits from blocking calls
    std::atomic<int> depth_ = 0;                         // nesting depth of such calls
    std::atomic<const char*> blocking_call_ = "";
    std::atomic<const std::string*> blocking_met_ = nullptr;
    std::atomic<bool> failed_ = false;  // an error was found: the process must end soon
    std::string problem_;               // the text of this error
    std::mutex mutex_;                  // guards what the thread reads: place_, others_, problem_
    std::condition_variable_any wake_;
    std::jthread guard_;
};

}  // namespace spikefloss
