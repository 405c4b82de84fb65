// Whether a thread computes with 0 in place of numbers that are smaller than the smallest normal one (1.2e-38 in
// float). Adjoints that vanish on the way back through many steps become that small, and a step with such numbers takes
// up to 20 times as long on a processor. While there is a FlushDenormals, its thread uses 0, and so do threads that
// OpenMP starts meanwhile; a KeepDenormals inside keeps the numbers. Text is read outside: limits such as "more than 0"
// are compared with the smallest denormal number.
#pragma once

#include <cstdint>

namespace spikefloss {

class DenormalMode {
public:
    DenormalMode(const DenormalMode&) = delete;
    DenormalMode& operator=(const DenormalMode&) = delete;

protected:
    explicit DenormalMode(bool flush) : before_(control()) { set_control(flush ? before_ | bits : before_ & ~bits); }
    ~DenormalMode() { set_control(before_); }

private:
#if defined(__x86_64__)
    static constexpr std::uint64_t bits = 0x8040;  // of results and of operands
    static std::uint64_t control() { return __builtin_ia32_stmxcsr(); }
    static void set_control(std::uint64_t value) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
    static constexpr std::uint64_t bits = std::uint64_t{1} << 24;
    static std::uint64_t control() {
        std::uint64_t value;
        asm volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set_control(std::uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
    static constexpr std::uint64_t bits = 0;
    static std::uint64_t control() { return 0; }
    static void set_control(std::uint64_t) {}
#endif

    std::uint64_t before_;
};

struct FlushDenormals : DenormalMode {
    FlushDenormals() : DenormalMode(true) {}
};

struct KeepDenormals : DenormalMode {
    KeepDenormals() : DenormalMode(false) {}
};

}  // namespace spikefloss
