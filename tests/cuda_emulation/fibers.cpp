#include "fibers.hpp"

#include "settings.hpp"

#include <sys/mman.h>
#include <cstdio>
#include <cstdlib>

namespace emulation {

namespace {
constexpr std::size_t page = 4096;
}

std::size_t stack_bytes() {
    static const std::size_t bytes =
        static_cast<std::size_t>(setting("SPIKEFLOSS_EMULATION_STACK", 128 * 1024)) / page * page;
    return bytes;
}

Fiber::Fiber() {
    void* memory =
        mmap(nullptr, stack_bytes() + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        std::fprintf(stderr, "emulated device: no memory for the stack of one more CUDA thread\n");
        std::abort();
    }
    mprotect(memory, page, PROT_NONE);
    stack = static_cast<char*>(memory) + page;
}

Fiber::~Fiber() { munmap(stack - page, stack_bytes() + page); }

Fiber* Fibers::take() {
    if (idle_.empty()) {
        all_.push_back(std::make_unique<Fiber>());
        all_.back()->number = all_.size();
        return all_.back().get();
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
}

void Fibers::abandon_all() {
    idle_.clear();
    for (const auto& fiber : all_) {
        fiber->fresh = true;
        idle_.push_back(fiber.get());
    }
}

void Fibers::enter(Fiber* fiber) {
    if (fiber->fresh) {
        fiber->fresh = false;
        getcontext(&fiber->first);
        fiber->first.uc_stack.ss_sp = fiber->stack;
        // The tops of stacks have different offsets. With the same offset they would compete for the same cache lines.
        fiber->first.uc_stack.ss_size = stack_bytes() - fiber->number * 832 % 16384 / 64 * 64;
        fiber->first.uc_link = nullptr;
        makecontext(&fiber->first, main_, 0);
        setcontext(&fiber->first);
    }
    _longjmp(fiber->context, 1);
}

bool Fibers::is_stack_guard(const void* address) const {
    const char* p = static_cast<const char*>(address);
    for (const auto& fiber : all_)
        if (p >= fiber->stack - page && p < fiber->stack) return true;
    return false;
}

}  // namespace emulation
