// OpenBLAS chooses its kernels when it is loaded. On a processor newer than itself it takes those of 2004 (SSE3), which
// are several times slower and less exact. Only an environment variable can change this. So an executable with this
// file sets it and starts itself again, before it does anything else. The library lacks it: its process is the
// caller's.
#if defined(__x86_64__)

#include <cblas.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include <sys/auxv.h>
#include <unistd.h>

namespace {

// OpenBLAS's name of the newest kernels that this processor can run; null if the oldest are the right ones.
const char* newest_kernels() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx512 ? "SkylakeX" : "Haswell";
}

// The kernels that OpenBLAS takes for a processor it does not know.
bool taken_for_unknown(const char* kernels) {
    for (const char* old : {"Prescott", "Nehalem", "Sandybridge", "Barcelona", "Generic"})
        if (std::strcmp(kernels, old) == 0) return true;
    return false;
}

// glibc passes the arguments of main to constructors too.
__attribute__((constructor)) void choose_kernels(int, char** argv, char**) {
    constexpr const char* variable = "OPENBLAS_CORETYPE";  // set: by the user, or already by this function
    const char* kernels = newest_kernels();
    if (std::getenv(variable) || !kernels || !taken_for_unknown(openblas_get_corename())) return;
    if (getauxval(AT_BASE) == 0) return;  // started through the loader: the restart would start the loader
    char program[PATH_MAX] = "";          // its own name, which ps and pkill show
    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0 || setenv(variable, kernels, 1) != 0) return;
    execv(program, argv);
    unsetenv(variable);  // the restart failed: slower, but correct
}

}  // namespace

#endif
