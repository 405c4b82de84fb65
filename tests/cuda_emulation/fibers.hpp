// Fibers: stacks on which CUDA threads run. Control passes between them without a system call. ucontext makes the first
// frame of a stack; afterwards _setjmp and _longjmp switch.
#pragma once

#include <ucontext.h>
#include <csetjmp>
#include <cstddef>
#include <memory>
#include <vector>

namespace emulation {

struct Fiber {
    Fiber();
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    char* stack;  // first usable byte; the page below it may not be touched
    std::size_t number = 0;
    bool fresh = true;  // has not entered its main function
    ucontext_t first;
    std::jmp_buf context;  // the place where it continues
};

// All fibers. Those that run no CUDA thread are idle.
class Fibers {
public:
    explicit Fibers(void (*main)()) : main_(main) {}
    // A fiber that waits in its main function, or a new one.
    Fiber* take();
    void give_back(Fiber* fiber) { idle_.push_back(fiber); }
    // Makes every fiber start its main function again, even in the middle of other work.
    void abandon_all();
    // Leaves the present stack for that of the fiber.
    [[noreturn]] void enter(Fiber* fiber);
    // Whether `address` is in the guard page of one of the stacks.
    bool is_stack_guard(const void* address) const;

private:
    void (*main_)();
    std::vector<std::unique_ptr<Fiber>> all_;
    std::vector<Fiber*> idle_;
};

// Bytes of one stack.
std::size_t stack_bytes();

}  // namespace emulation
