// OpenBLAS chooses its kernels when it is loaded, and on a processor newer than itself takes those of 2004 (SSE3),
// several times slower and less exact. It can be told better only by an environment variable, so that the program
// starts itself once more, before anything has begun.
#include "backend/blas_kernels.hpp"

#include <cblas.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include <sys/auxv.h>
#include <unistd.h>

namespace spikefloss {
namespace {

#if defined(__x86_64__)
// OpenBLAS's name of the newest kernels that this processor can run; null where its oldest are right.
const char* newest_kernels() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx512 ? "SkylakeX" : "Haswell";
}

// What OpenBLAS takes when it does not know the processor.
bool taken_for_unknown(const char* kernels) {
    for (const char* old : {"Prescott", "Nehalem", "Sandybridge", "Barcelona", "Generic"})
        if (std::strcmp(kernels, old) == 0) return true;
    return false;
}

// glibc hands main's arguments to constructors too.
__attribute__((constructor)) void choose_kernels(int, char** argv, char**) {
    constexpr const char* variable = "OPENBLAS_CORETYPE";  // set: the user has chosen, or this has been here
    const char* kernels = newest_kernels();
    if (std::getenv(variable) || !kernels || !taken_for_unknown(openblas_get_corename())) return;
    if (getauxval(AT_BASE) == 0) return;  // started by way of the loader: that is what would be started again
    char program[PATH_MAX] = "";          // by its own name, which ps and pkill show
    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0 || setenv(variable, kernels, 1) != 0) return;
    execv(program, argv);
    unsetenv(variable);  // it could not be started again: slower, but right
}
#endif

}  // namespace

void keep_blas_on_one_thread() { openblas_set_num_threads(1); }

}  // namespace spikefloss
