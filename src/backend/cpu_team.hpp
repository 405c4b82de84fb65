// Threads that share the work on one sequence, if there are fewer sequences than threads. They wait for each other a
// few times per step. An OpenMP barrier takes microseconds, as long as the step itself.
#pragma once

#include "core/view.hpp"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace spikefloss {

class TeamBarrier {
public:
    void wait(Index members) {
        if (members == 1) return;
        const unsigned phase = phase_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins)
            if (spins < 4000)
                pause();
            else
                std::this_thread::yield();  // the other threads may need this core
    }

private:
    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    alignas(64) std::atomic<Index> arrived_{0};
    alignas(64) std::atomic<unsigned> phase_{0};
};

// One member of a team, and its part of the work.
struct Member {
    Index index, members;
    Index thread;     // number of the thread, < threads
    Index workspace;  // number among the teams that run at the same time, < threads
    TeamBarrier* barrier;

    void meet() const { barrier->wait(members); }
    // Its share of `count` items, in multiples of `unit`.
    struct Range {
        Index begin, end;
    };
    Range share(Index count, Index unit = 1) const {
        const Index units = (count + unit - 1) / unit;
        return {units * index / members * unit, std::min(count, units * (index + 1) / members * unit)};
    }
};

// Calls work(team, member) for every member of `teams` teams; the members of a team run at the same time. A team is one
// thread unless there are at least twice as many threads as teams.
template <class Work>
void for_every_team(int threads, Index teams, Work&& work) {
    if (teams == 0) return;
    const Index wanted = teams * std::max<Index>(1, threads / teams);
    std::vector<TeamBarrier> barriers(static_cast<std::size_t>(teams));
#pragma omp parallel num_threads(static_cast<int>(std::min<Index>(threads, wanted))) if (threads > 1)
    {
        // OpenMP may give fewer threads than requested. A team with a missing member would wait for ever.
        const Index running = omp_get_num_threads(), me = omp_get_thread_num();
        const Index members = std::max<Index>(1, running / teams);
        const auto member = [&](Index team, Index index, Index workspace) {
            work(team, Member{index, members, me, workspace, &barriers[static_cast<std::size_t>(team)]});
        };
        if (members > 1) {
            if (me / members < teams) member(me / members, me % members, me / members);
        } else {
            for (Index team = teams * me / running; team < teams * (me + 1) / running; ++team) member(team, 0, me);
        }
    }
}

}  // namespace spikefloss
