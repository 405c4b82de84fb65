#include "engine.hpp"

#include "settings.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {

namespace {

unsigned volume(dim3 d) { return d.x * d.y * d.z; }

uint3 unravel(unsigned index, dim3 shape) {
    return {index % shape.x, index / shape.x % shape.y, index / (shape.x * shape.y)};
}

// The next of a sequence of pseudo-random numbers (xorshift).
unsigned long long draw(unsigned long long& state) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

void shuffle(std::vector<unsigned>& list, unsigned long long& state) {
    for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[draw(state) % i]);
}

}  // namespace

Engine& Engine::get() {
    static Engine& engine = *new Engine;
    return engine;
}

cudaError_t Engine::run(const LaunchRecord& launch) {
    launch_ = &launch;
    ++launches_;
    error_ = cudaSuccess;
    blockDim = launch.block;
    gridDim = launch.grid;
    prepare_order();
    std::vector<unsigned> starts(volume(launch.grid) / launch.cluster), together;
    std::iota(starts.begin(), starts.end(), 0u);
    if (random_) shuffle(starts, random_);
    for (std::size_t i = 0; i < starts.size() && error_ == cudaSuccess; ++i) {
        for (unsigned rank = 0; rank < launch.cluster; ++rank) together.push_back(starts[i] * launch.cluster + rank);
        if (launch.cooperative && i + 1 < starts.size()) continue;
        prepare(group_, together);
        together.clear();
        run_group();
    }
    launch_ = nullptr;
    return error_;
}

// Threads start in the order of their numbers. With a seed they start warp by warp in a random order, each warp from a
// random lane on. A race between warps or lanes then shows with some seeds.
void Engine::prepare_order() {
    const auto seed = static_cast<unsigned long long>(setting("SPIKEFLOSS_EMULATION_SEED", 0));
    random_ = seed ? seed * 0x9E3779B97F4A7C15ull | 1 : 0;
    const unsigned threads = volume(launch_->block), warps = (threads + 31) / 32;
    std::vector<unsigned> warp_order(warps);
    std::iota(warp_order.begin(), warp_order.end(), 0u);
    if (random_) shuffle(warp_order, random_);
    order_.clear();
    for (unsigned warp : warp_order) {
        const unsigned lanes = std::min(32u, threads - warp * 32);
        const unsigned first = random_ ? static_cast<unsigned>(draw(random_) % lanes) : 0;
        for (unsigned lane = 0; lane < lanes; ++lane) order_.push_back(warp * 32 + (first + lane) % lanes);
    }
    ids_.resize(threads);
    for (unsigned t = 0; t < threads; ++t) ids_[t] = unravel(t, launch_->block);
}

void Engine::prepare(Group& group, const std::vector<unsigned>& ids) {
    while (pool_.size() < ids.size()) pool_.push_back(std::make_unique<Block>());
    group.blocks.clear();
    group.clusters.resize(ids.size() / launch_->cluster);
    for (Barrier& barrier : group.clusters) {
        barrier.waiting.clear();
        barrier.ended = 0;
    }
    for (std::size_t i = 0; i < ids.size(); ++i) {
        Block& block = *pool_[i];
        block.group = &group;
        block.rank = static_cast<unsigned>(i % launch_->cluster);
        block.first_peer = static_cast<unsigned>(i - block.rank);
        prepare(block, ids[i]);
        group.blocks.push_back(&block);
    }
    group.begun = group.ended = 0;
    group.threads = ids.size() * order_.size();
    ready_.clear();
    on_counter_.clear();
}

void Engine::prepare(Block& block, unsigned id) {
    const auto threads = static_cast<unsigned>(order_.size());
    block.id = unravel(id, launch_->grid);
    block.begun = false;
    block.threads.resize(threads);
    block.warps.assign((threads + 31) / 32, WarpState{});
    for (unsigned t = 0; t < threads; ++t) block.warps[t / 32].present |= 1u << (t % 32);
    block.barrier.waiting.clear();
    block.barrier.ended = 0;
    block.barriers = block.meetings = 0;
    block.team = nullptr;
    block.shared.resize(launch_->shared);
}

// From here on the fibers pass control among themselves. They return when no thread can continue.
void Engine::run_group() {
    if (_setjmp(main_) == 0) next();
    current_ = nullptr;
    if (error_ == cudaSuccess && group_.ended < group_.threads) report_deadlock();
    if (error_ == cudaSuccess) return;
    fibers_.abandon_all();
    for (Block* block : group_.blocks) block->shared.close();
}

void Engine::fiber_main() {
    Engine& engine = get();
    for (;;) {
        Fiber* self = engine.entering_;
        engine.run_fresh_threads(self);
        engine.fibers_.give_back(self);
        if (_setjmp(self->context) == 0) engine.next();
    }
}

// Threads that reach no barrier run one after another on this fiber.
void Engine::run_fresh_threads(Fiber* self) {
    while (Thread* thread = next_fresh()) {
        thread->fiber = self;
        make_current(thread);
        launch_->body();
        end_thread(*current_);
    }
}

Thread* Engine::next_fresh() {
    const std::size_t per_block = order_.size();
    if (group_.begun == group_.threads) return nullptr;
    Block& block = *group_.blocks[group_.begun / per_block];
    const unsigned index = order_[group_.begun++ % per_block];
    if (!block.begun) {
        block.begun = true;
        block.shared.open();
    }
    Thread& thread = block.threads[index];
    thread.block = &block;
    thread.index = index;
    thread.id = ids_[index];
    thread.copies.clear();
    thread.copy_groups = thread.exchanges = 0;
    return &thread;
}

void Engine::make_current(Thread* thread) {
    current_ = thread;
    thread->wait = Wait::no;
    threadIdx = thread->id;
    blockIdx = thread->block->id;
}

void Engine::end_thread(Thread& thread) {
    Block& block = *thread.block;
    thread.wait = Wait::ended;
    WarpState& warp = block.warps[thread.index / 32];
    const unsigned lane = 1u << (thread.index % 32);
    warp.ended |= lane;
    for (unsigned waiting = warp.waiting; waiting; waiting &= waiting - 1) {
        const Thread& other = block.threads[thread.index / 32 * 32 + static_cast<unsigned>(__builtin_ctz(waiting))];
        if (other.mask & lane)
            fail(cudaErrorLaunchFailure, "it ended while " + describe(other) + ", whose mask names it");
    }
    Barrier& cluster = group_.clusters[block.first_peer / launch_->cluster];
    for (Barrier* barrier : {&block.barrier, &cluster}) {
        ++barrier->ended;
        if (!barrier->waiting.empty())
            fail(cudaErrorLaunchFailure,
                 "it ended without the barrier that others reached: " + describe(*barrier->waiting.front()));
    }
    ++group_.ended;
    if (block.barrier.ended == order_.size()) end_block(block);
}

void Engine::end_block(Block& block) {
    if (!block.shared.slack_intact())
        fail(cudaErrorIllegalAddress, "its block wrote before the beginning of its shared memory");
    if (block_ended) block_ended(block);
    block.shared.close();
}

void Engine::wait(Wait what, Place place) {
    Thread* me = current_;
    me->wait = what;
    me->place = place;
    if (what == Wait::counter) on_counter_.push_back(me);
    if (what == Wait::turn) ready_.push_back(me);
    if (_setjmp(me->fiber->context) == 0) next();
}

void Engine::wake(Thread* thread) { ready_.push_back(thread); }

void Engine::wake_all(std::vector<Thread*>& threads) {
    if (random_ && draw(random_) % 2) std::reverse(threads.begin(), threads.end());
    ready_.insert(ready_.end(), threads.begin(), threads.end());
    threads.clear();
}

Thread* Engine::pop_ready() {
    for (std::size_t i = 0; i < on_counter_.size(); ++i) {
        Thread* thread = on_counter_[i];
        if (static_cast<int>(*thread->counter - thread->target) < 0) continue;
        on_counter_[i] = on_counter_.back();
        on_counter_.pop_back();
        return thread;
    }
    if (ready_.empty()) return nullptr;
    Thread* thread = ready_.front();
    ready_.pop_front();
    return thread;
}

void Engine::next() {
    // With a seed, threads that have not begun sometimes run before threads that were woken.
    const bool fresh = group_.begun < group_.threads;
    const bool prefer_fresh = fresh && random_ && draw(random_) % 4 == 0;
    Thread* thread = prefer_fresh ? nullptr : pop_ready();
    if (thread) {
        make_current(thread);
        _longjmp(thread->fiber->context, 1);
    }
    if (fresh) {
        entering_ = fibers_.take();
        fibers_.enter(entering_);
    }
    _longjmp(main_, 1);
}

const Block* Engine::shared_owner(const void* address) const {
    if (!launch_) return nullptr;
    for (const Block* block : group_.blocks)
        if (block->shared.near(address)) return block;
    return nullptr;
}

}  // namespace emulation
