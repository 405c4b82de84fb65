// How long a rank waits for the others. Before every collective the ranks of its group meet: each waits, polling, until
// all have come. One that has waited longer than the time limit calls the roll of all ranks; those that wait too
// answer, the others are named in the error that ends the job. So a lost or stuck rank is never a hang.
//
// The meeting costs less than a microsecond (docs/parallelism.md) and leaves the collective itself to MPI's blocking
// call, which is twice as fast as its polled counterpart. A rank that stops in the middle of that call is seen by a
// thread that makes no MPI call.
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

class Watch {
public:
    // Over all ranks of `comm`; seconds: the time limit, 0: none. Collective.
    Watch(MPI_Comm comm, double seconds);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    double seconds() const { return seconds_; }
    // What the ranks are at ("training step 12"), for messages.
    void at(const std::string& place) { place_ = place; }
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

    // Stands around a blocking MPI call, or work that makes some. others: names of the ranks in it; outlives it.
    class Blocking {
    public:
        Blocking(Watch* watch, const char* call, const std::string& others);
        ~Blocking();
        Blocking(const Blocking&) = delete;
        Blocking& operator=(const Blocking&) = delete;

    private:
        Watch* watch_;
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
    void guard(const std::stop_token& stop);

    MPI_Comm comm_ = MPI_COMM_NULL;
    int rank_ = 0, size_ = 1;
    double seconds_ = 0.0;
    std::string place_;
    std::vector<std::string> hosts_;
    int round_ = 0;                                      // of my roll calls
    std::list<std::pair<MPI_Request, Answer>> answers_;  // sent; the few there are live on
    std::atomic<std::uint64_t> blocked_ = 0;  // counts entering and leaving blocking calls
    std::atomic<int> depth_ = 0;              // of such calls
    std::atomic<const char*> blocking_call_ = "";
    std::atomic<const std::string*> blocking_others_ = nullptr;
    std::atomic<bool> failed_ = false;  // the roll was called: the process has to end soon
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::jthread guard_;
};

}  // namespace spikefloss
