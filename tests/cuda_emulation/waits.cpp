// Waits of CUDA threads for each other: barriers of a block and of a cluster, counters, calls of a warp.
#include "engine.hpp"

#include <bit>
#include <cstdio>
#include <cstring>

namespace emulation {

namespace {

bool same_place(const Place& a, const Place& b) {
    return a.line() == b.line() && std::string_view(a.file_name()) == b.file_name();
}

Engine& engine() { return Engine::get(); }

bool is_last(const Barrier& barrier, std::size_t threads) { return barrier.waiting.size() + 1 == threads; }

// Whether the running thread is the last of `threads` to arrive. If not, it waits until the last one wakes it.
bool arrive(Barrier& barrier, std::size_t threads, Wait what, Place place) {
    Thread* me = engine().current();
    if (barrier.ended)
        engine().fail(cudaErrorLaunchFailure,
                      "it waits at a barrier (" + std::string(place.file_name()) + ":" + std::to_string(place.line()) +
                          ") that " + std::to_string(barrier.ended) + " threads will never reach: they ended");
    if (!barrier.waiting.empty() && !same_place(barrier.waiting.front()->place, place))
        engine().fail(cudaErrorLaunchFailure, "it reached the barrier at " + std::string(place.file_name()) + ":" +
                                                  std::to_string(place.line()) + ", others another one: " +
                                                  engine().describe(*barrier.waiting.front()));
    if (is_last(barrier, threads)) {
        engine().wake_all(barrier.waiting);
        return true;
    }
    barrier.waiting.push_back(me);
    engine().wait(what, place);
    return false;
}

}  // namespace

void block_barrier(Place place) {
    Block& block = *engine().current()->block;
    if (is_last(block.barrier, block.threads.size())) ++block.barriers;
    arrive(block.barrier, block.threads.size(), Wait::block_barrier, place);
}

void cluster_barrier(Place place) {
    Block& block = *engine().current()->block;
    const unsigned cluster = engine().launch()->cluster;
    Barrier& barrier = block.group->clusters[block.first_peer / cluster];
    if (is_last(barrier, block.threads.size() * cluster))
        for (unsigned rank = 0; rank < cluster; ++rank) {
            Block& peer = *block.group->blocks[block.first_peer + rank];
            ++peer.barriers;
            ++peer.meetings;
            peer.team = &barrier;
        }
    arrive(barrier, block.threads.size() * cluster, Wait::cluster_barrier, place);
}

void wait_until(const unsigned* counter, unsigned target, Place place) {
    Thread* me = engine().current();
    if (static_cast<int>(*counter - target) < 0) {
        me->counter = counter;
        me->target = target;
        engine().wait(Wait::counter, place);
    }
    me->block->team = counter;
    ++me->block->meetings;
}

void let_others_run() { engine().wait(Wait::turn, Place::current()); }

unsigned cluster_rank() { return engine().current()->block->rank; }

void* block_shared_memory() { return engine().current()->block->shared.data(); }

void require_shared(const void* address, std::size_t bytes) {
    const SharedMemory& shared = engine().current()->block->shared;
    const auto offset = static_cast<const char*>(address) - static_cast<const char*>(shared.data());
    if (offset < 0 || static_cast<std::size_t>(offset) + bytes > shared.bytes())
        engine().fail(cudaErrorIllegalAddress, "it stores to what is not in its own shared memory");
    if (static_cast<std::size_t>(offset) % bytes)
        engine().fail(cudaErrorMisalignedAddress,
                      "it stores " + std::to_string(bytes) + " bytes at byte " + std::to_string(offset));
}

void copy_async(void* shared, const void* global, std::size_t bytes) {
    require_shared(shared, bytes);
    Thread& thread = *engine().current();
    thread.copies.push_back({shared, global, bytes, thread.copy_groups});
}

void commit_copies() { ++engine().current()->copy_groups; }

void wait_copies(unsigned newer) {
    Thread& thread = *engine().current();
    std::erase_if(thread.copies, [&](const PendingCopy& copy) {
        const bool complete = copy.group + newer < thread.copy_groups;
        if (complete) std::memcpy(copy.to, copy.from, copy.bytes);
        return complete;
    });
}

void* cluster_peer(void* mine, unsigned rank) {
    const Block& block = *engine().current()->block;
    const auto offset = static_cast<char*>(mine) - block.shared.data();
    if (offset < 0 || static_cast<std::size_t>(offset) > block.shared.bytes())
        engine().fail(cudaErrorIllegalAddress, "it asks for a peer's copy of what is not in its own shared memory");
    if (rank >= engine().launch()->cluster)
        engine().fail(cudaErrorIllegalAddress, "it asks for block " + std::to_string(rank) + " of a cluster of " +
                                                   std::to_string(engine().launch()->cluster));
    return block.group->blocks[block.first_peer + rank]->shared.data() + offset;
}

namespace {

// The value that lane `lane` reads in a shuffle.
unsigned source_lane(const Thread& thread, unsigned lane) {
    const auto width = static_cast<unsigned>(thread.width), first = lane / width * width;
    const auto argument = static_cast<unsigned>(thread.argument);
    switch (thread.call) {
        case WarpCall::shfl: return first + argument % width;
        case WarpCall::shfl_up: return lane - first >= argument ? lane - argument : lane;
        default: return (lane ^ argument) < first + width ? lane ^ argument : lane;
    }
}

struct Exchange {
    Thread* lanes[32];
    std::uint64_t values[32];
    unsigned mask, ballot = 0;
};

std::uint64_t result(const Exchange& exchange, const Thread& thread, unsigned lane) {
    switch (thread.call) {
        case WarpCall::ballot: return exchange.ballot;
        case WarpCall::syncwarp: return 0;
        default: break;
    }
    const unsigned source = source_lane(thread, lane);
    if (!(exchange.mask >> source & 1))
        engine().fail(cudaErrorLaunchFailure, "a shuffle reads lane " + std::to_string(source) +
                                                  ", which takes no part in it: " + engine().describe(thread));
    return exchange.values[source];
}

// All lanes of the mask have arrived: each gets its result.
void complete(Block& block, unsigned warp, unsigned mask) {
    Exchange exchange;
    exchange.mask = mask;
    Thread* me = engine().current();
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const auto lane = static_cast<unsigned>(std::countr_zero(rest));
        Thread& thread = block.threads[warp * 32 + lane];
        if (&thread != me &&
            (thread.call != me->call || thread.mask != me->mask || !same_place(thread.place, me->place)))
            engine().fail(cudaErrorLaunchFailure,
                          "lanes of its warp disagree about the call or its mask: " + engine().describe(thread));
        exchange.lanes[lane] = &thread;
        exchange.values[lane] = thread.value;
        if (thread.value) exchange.ballot |= 1u << lane;
    }
    std::uint64_t results[32];
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const auto lane = static_cast<unsigned>(std::countr_zero(rest));
        results[lane] = result(exchange, *exchange.lanes[lane], lane);
    }
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const auto lane = static_cast<unsigned>(std::countr_zero(rest));
        exchange.lanes[lane]->value = results[lane];
        if (exchange.lanes[lane] != me) engine().wake(exchange.lanes[lane]);
    }
    block.warps[warp].waiting &= ~mask;
    if (me->call == WarpCall::syncwarp && mask == block.warps[warp].present) ++block.warps[warp].barriers;
}

}  // namespace

std::uint64_t warp_call(WarpCall call, unsigned mask, std::uint64_t value, int argument, int width, Place place) {
    Thread* me = engine().current();
    Block& block = *me->block;
    const unsigned warp = me->index / 32, lane = 1u << (me->index % 32);
    WarpState& state = block.warps[warp];
    me->call = call;
    me->mask = mask;
    me->value = value;
    me->argument = argument;
    me->width = width;
    me->place = place;
    me->wait = Wait::warp;
    if (!(mask & lane))
        engine().fail(cudaErrorLaunchFailure, "its mask does not name its own lane: " + engine().describe(*me));
    const unsigned needed = mask & state.present;
    if (needed & state.ended)
        engine().fail(cudaErrorLaunchFailure, "its mask names lanes that have ended: " + engine().describe(*me));
    state.waiting |= lane;
    if ((state.waiting & needed) == needed)
        complete(block, warp, needed);
    else
        engine().wait(Wait::warp, place);
    return me->value;
}

// A lane can be one call ahead of another, so there are two arrays. This is no __syncwarp: it orders no accesses.
const double* exchange(double a, double b, Place place) {
    Thread& me = *engine().current();
    double* const all = me.block->warps[me.index / 32].exchanged[me.exchanges++ % 2];
    const unsigned lane = me.index % 32;
    all[lane] = a;
    all[32 + lane] = b;
    warp_call(WarpCall::shfl, ~0u, 0, static_cast<int>(lane), 32, place);
    return all;
}

}  // namespace emulation
