// Runs one kernel. Its blocks run one after another, or together if they belong to a cluster or a cooperative
// launch. Their threads are fibers that switch where they wait. A fault ends the kernel with a report on stderr and
// an error.
#pragma once

#include "cuda_runtime.h"
#include "fibers.hpp"
#include "memory.hpp"

#include <csetjmp>
#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace emulation {

struct LaunchRecord {
    const void* kernel;
    std::function<void()> body;  // of one thread
    dim3 grid, block;
    std::size_t shared;
    unsigned cluster;
    bool cooperative;
};

struct Block;

enum class Wait : unsigned char { no, block_barrier, cluster_barrier, warp, counter, turn, ended };

struct WarpState {
    unsigned present = 0, waiting = 0, ended = 0;  // lanes
    unsigned barriers = 0;                         // __syncwarps of all lanes
    double exchanged[2][64] = {};                  // of this and the last call of exchange
};

struct PendingCopy {
    void* to;
    const void* from;
    std::size_t bytes;
    unsigned group;
};

struct Thread {
    Block* block;
    unsigned index;  // in the block
    uint3 id;
    Wait wait;
    Fiber* fiber;
    Place place;  // where it waits
    // the value it waits for or contributes
    WarpCall call;
    unsigned mask;
    int argument, width;
    std::uint64_t value;
    const unsigned* counter;
    unsigned target;
    std::vector<PendingCopy> copies;
    unsigned copy_groups;  // committed
    unsigned exchanges;    // calls of exchange
};

struct Barrier {
    std::vector<Thread*> waiting;
    unsigned ended = 0;  // threads that have ended and do not arrive
};

struct Group;

struct Block {
    Group* group;
    uint3 id;
    unsigned rank;        // in its cluster
    unsigned first_peer;  // index in the group of the cluster's first block
    bool begun;
    std::vector<Thread> threads;
    std::vector<WarpState> warps;
    Barrier barrier;
    // Barriers of all threads, and meetings with the other blocks of its team (a cluster, or blocks with a counter).
    unsigned barriers = 0, meetings = 0;
    const void* team = nullptr;  // null: no meeting yet
    SharedMemory shared;
};

// Blocks that run at the same time.
struct Group {
    std::vector<Block*> blocks;
    std::vector<Barrier> clusters;  // one barrier per cluster
    std::size_t begun = 0;          // threads, in the order of `order` and blocks
    std::size_t ended = 0, threads = 0;
};

class Engine {
public:
    static Engine& get();

    // cudaSuccess, or the error the kernel ended with.
    cudaError_t run(const LaunchRecord& launch);

    // For the thread that runs now.
    Thread* current() const { return current_; }
    void wait(Wait what, Place place);
    void wake(Thread* thread);
    void wake_all(std::vector<Thread*>& threads);
    // Ends the kernel.
    [[noreturn]] void fail(cudaError_t error, const std::string& what);
    bool running() const { return current_ != nullptr; }
    const LaunchRecord* launch() const { return launch_; }
    unsigned launches() const { return launches_; }  // until now, with this one
    bool is_stack_guard(const void* address) const { return fibers_.is_stack_guard(address); }
    // The block whose shared memory contains `address` or is near it; null: none.
    const Block* shared_owner(const void* address) const;
    std::string describe(const Thread& thread) const;
    // Called when a block ends; null: nothing (races.cpp).
    void (*block_ended)(const Block&) = nullptr;

private:
    Engine() : fibers_(&Engine::fiber_main) {}
    static void fiber_main();
    void prepare_order();
    void prepare(Group& group, const std::vector<unsigned>& ids);
    void prepare(Block& block, unsigned id);
    void run_group();
    void run_fresh_threads(Fiber* self);
    Thread* next_fresh();
    void end_thread(Thread& thread);
    void end_block(Block& block);
    void make_current(Thread* thread);
    [[noreturn]] void next();
    Thread* pop_ready();
    void report_deadlock();

    Fibers fibers_;
    const LaunchRecord* launch_ = nullptr;
    unsigned launches_ = 0;
    Thread* current_ = nullptr;
    Fiber* entering_ = nullptr;  // the fiber that control passes to
    Group group_;
    std::vector<std::unique_ptr<Block>> pool_;
    std::vector<unsigned> order_;  // of the threads of a block
    std::vector<uint3> ids_;       // threadIdx by index
    std::deque<Thread*> ready_;
    std::vector<Thread*> on_counter_;
    std::jmp_buf main_;
    cudaError_t error_ = cudaSuccess;
    unsigned long long random_ = 0;
};

std::string kernel_name(const void* kernel);

}  // namespace emulation
