// How long a rank waits for the others. Before every collective the ranks of its group meet: each polls until all have
// reached it. A rank that has waited longer than the time limit asks all ranks. Ranks that wait answer. Those that do
// not answer are named in the error that ends the job. So a lost or stuck rank is never a hang.
//
// The meeting costs less than a microsecond (docs/parallelism.md) and leaves the collective itself to MPI's blocking
// call, which is twice as fast as its polled counterpart. A rank that stops in the middle of that call is seen by a
// thread that makes no MPI call; so is one that does not come to a call without a meeting, as those that set up MPI.
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

// Ends the process with Exit::lost when it lives longer than Watch::default_seconds: for calls at a time when nothing
// can be asked of the other ranks. what: the call, for the message.
class TimeLimit {
public:
    explicit TimeLimit(const char* what);

private:
    std::jthread thread_;
};

class Watch {
public:
    // The time limit of everything outside a Session, from MPI_Init, when no config is known, to MPI_Finalize. main
    // sets it to what --watchdog says, a Session to what its config says.
    static inline double default_seconds = 600.0;

    // Over all ranks of `comm`; where MPI does not run, this process alone. seconds: the time limit, 0: none.
    // Collective.
    Watch(MPI_Comm comm, double seconds);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    double seconds() const { return seconds_; }
    // What the ranks are at ("training step 12"), for messages.
    void at(const std::string& place);
    const std::string& host_of(int rank) const { return hosts_[static_cast<std::size_t>(rank)]; }
    // "rank 3 (node7)"
    std::string name_of(int rank) const;
    // The same of all ranks of `group`.
    std::string names_of(MPI_Comm group) const;

    // Returns when all ranks of `group` have made this call, number for number. Throws Error(Exit::lost) with the
    // names of the lost ranks. call: what follows, for messages.
    void meet(MPI_Comm group, int rank, int size, const char* call);
    // To be called several times a second in any other wait (for a device) that has lasted `waited` seconds.
    void waiting(double waited, const char* what);

    // Stands around a blocking MPI call, or work that makes some. met: names of the ranks that have all come to it, the
    // caller keeps them; null: any rank may be missing. No watch, nothing done.
    class Blocking {
    public:
        Blocking(Watch* watch, const char* call, const std::string* met = nullptr);
        ~Blocking();
        Blocking(const Blocking&) = delete;
        Blocking& operator=(const Blocking&) = delete;

    private:
        Watch* watch_;
        const char* outer_call_ = "";  // of the one around this one
        const std::string* outer_met_ = nullptr;
    };

private:
    // What a rank answers when the roll is called.
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
    int round_ = 0;                                      // of my roll calls
    std::list<std::pair<MPI_Request, Answer>> answers_;  // sent; the few there are live on
    std::atomic<std::uint64_t> blocked_ = 0;             // counts entering and leaving blocking calls
    std::atomic<int> depth_ = 0;                         // of such calls
    std::atomic<const char*> blocking_call_ = "";
    std::atomic<const std::string*> blocking_met_ = nullptr;
    std::atomic<bool> failed_ = false;  // the roll was called: the process has to end soon
    std::string problem_;               // what it found
    std::mutex mutex_;                  // of what the guard reads: place_, others_, problem_
    std::condition_variable_any wake_;
    std::jthread guard_;
};

}  // namespace spikefloss
