// Texts about faults: the thread, its place, and the wait.
#include "engine.hpp"

#include <cstdio>

namespace emulation {

namespace {

std::string text(uint3 v) {
    char words[48];
    std::snprintf(words, sizeof words, "(%u, %u, %u)", v.x, v.y, v.z);
    return words;
}

const char* word(WarpCall call) {
    switch (call) {
        case WarpCall::shfl: return "__shfl_sync";
        case WarpCall::shfl_up: return "__shfl_up_sync";
        case WarpCall::shfl_xor: return "__shfl_xor_sync";
        case WarpCall::ballot: return "__ballot_sync";
        default: return "__syncwarp";
    }
}

std::string waits_for(const Thread& thread) {
    char mask[16];
    switch (thread.wait) {
        case Wait::no: return "runs";
        case Wait::turn: return "waits for its turn";
        case Wait::ended: return "has ended";
        case Wait::block_barrier: return "waits at __syncthreads";
        case Wait::cluster_barrier: return "waits at cluster_barrier";
        case Wait::counter:
            return "waits for a counter that is " + std::to_string(*thread.counter) + " to reach " +
                   std::to_string(thread.target);
        default: break;
    }
    std::snprintf(mask, sizeof mask, "0x%08X", thread.mask);
    return std::string("waits at ") + word(thread.call) + " with mask " + mask;
}

}  // namespace

std::string Engine::describe(const Thread& thread) const {
    std::string line = "block " + text(thread.block->id) + " thread " + text(thread.id) + " " + waits_for(thread);
    if (thread.wait != Wait::no && thread.wait != Wait::ended && thread.wait != Wait::turn)
        line += std::string(" in ") + thread.place.file_name() + ":" + std::to_string(thread.place.line());
    return line;
}

void Engine::fail(cudaError_t error, const std::string& what) {
    std::fprintf(stderr, "emulated device: kernel %s, block %s, thread %s: %s\n", kernel_name(launch_->kernel).c_str(),
                 text(current_->block->id).c_str(), text(current_->id).c_str(), what.c_str());
    error_ = error;
    _longjmp(main_, 1);
}

// All threads have begun and wait: for each block that has not ended, one thread of each kind of wait is reported.
void Engine::report_deadlock() {
    error_ = cudaErrorLaunchFailure;
    std::fprintf(stderr, "emulated device: kernel %s: deadlock, no thread can go on\n",
                 kernel_name(launch_->kernel).c_str());
    int lines = 0;
    for (const Block* block : group_.blocks) {
        const Thread* said = nullptr;
        for (const Thread& thread : block->threads) {
            if (thread.wait == Wait::ended) continue;
            const bool same = said && said->wait == thread.wait && said->place.line() == thread.place.line();
            if (same || ++lines > 40) continue;
            std::fprintf(stderr, "  %s\n", describe(thread).c_str());
            said = &thread;
        }
    }
}

}  // namespace emulation
