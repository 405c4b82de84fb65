// A processor without the instructions that the program was compiled for would end it with SIGILL, even before main. So
// this runs before everything else, and itself uses what every x86-64 has.
#if defined(__AVX2__) && defined(__FMA__)

#include <unistd.h>

namespace {

__attribute__((constructor(101), target("arch=x86-64"))) void check_processor() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return;
    static const char message[] =
        "spikefloss: error: this build needs a processor with AVX2, FMA and BMI2; this one lacks some of them\n"
        "  what to do: build it with cmake --preset cpu-release -DSPIKEFLOSS_ARCH=x86-64, which is slower\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, message, sizeof message - 1);
    _exit(2);  // Exit::usage
}

}  // namespace

#endif
