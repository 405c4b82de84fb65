// An executable with this file gives OpenBLAS the newest kernels that the processor has: it sets the variable of
// blas_kernels.hpp and starts itself again, before it does anything else. The library lacks it: its process is the
// caller's.
#include "core/blas_kernels.hpp"

#include <cblas.h>

#include <climits>
#include <cstdlib>

#include <sys/auxv.h>
#include <unistd.h>

namespace spikefloss {
namespace {

// glibc passes the arguments of main to constructors too.
__attribute__((constructor)) void choose_kernels(int, char** argv, char**) {
    const char* kernels = better_blas_kernels(openblas_get_corename());
    if (!kernels) return;                 // also if this function has set the variable
    if (getauxval(AT_BASE) == 0) return;  // started through the loader: the restart would start the loader
    char program[PATH_MAX] = "";          // its own name, which ps and pkill show
    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0 || setenv(blas_variable, kernels, 1) != 0) return;
    execv(program, argv);
    unsetenv(blas_variable);  // the restart failed: slower, but correct
}

}  // namespace
}  // namespace spikefloss
