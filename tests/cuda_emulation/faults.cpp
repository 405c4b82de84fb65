// The handler of memory faults: reports kernel, block, thread and address. A fault of a CUDA thread ends its kernel
// with cudaErrorIllegalAddress, as on a device; any other fault ends the process.
#include "engine.hpp"
#include "streams.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace emulation {

namespace {

std::string where(const void* address) {
    const Engine& engine = Engine::get();
    if (engine.is_stack_guard(address)) return "its stack overflowed (SPIKEFLOSS_EMULATION_STACK makes it larger)";
    char pointer[32];
    std::snprintf(pointer, sizeof pointer, "%p", address);
    std::string text = std::string("it touched ") + pointer + ", ";
    if (const Block* block = engine.shared_owner(address))
        return text + "at byte " + std::to_string(static_cast<const char*>(address) - block->shared.data()) +
               " of the " + std::to_string(block->shared.bytes()) + " bytes of shared memory of block " +
               std::to_string(block->id.x) +
               (block->barrier.ended == block->threads.size() ? " (which has ended)"
                : block->begun                                ? ""
                                                              : " (which has not begun)");
    return text + describe_address(address);
}

void handle(int signal, siginfo_t* info, void*) {
    Engine& engine = Engine::get();
    const std::string what = signal == SIGFPE ? "it divided an integer by zero" : where(info->si_addr);
    if (engine.running()) engine.fail(cudaErrorIllegalAddress, what);
    const char* work = running_work();
    std::fprintf(stderr, "emulated device: %s: %s\n", work ? work : "the host, outside of any queued work",
                 what.c_str());
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    std::abort();
}

}  // namespace

void install_fault_handler() {
    static bool installed = false;
    if (installed) return;
    installed = true;
    static char stack[64 * 1024];
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(signal, &action, nullptr);
}

}  // namespace emulation
