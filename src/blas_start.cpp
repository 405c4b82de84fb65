// An executable with this file prepares OpenBLAS before it does anything else. It gives OpenBLAS the newest kernels
// that the processor has: it sets the variable of blas_kernels.hpp and starts itself again. It ends the threads of
// OpenBLAS, which no product uses: they would keep a core busy for the first 0.1 s. The library lacks both: its process
// is the caller's.
#include "core/blas_kernels.hpp"

#include <cblas.h>

#include <climits>
#include <cstdlib>

#include <sys/auxv.h>
#include <unistd.h>

// Ends its threads; it starts them again when a product needs them. Not all builds of OpenBLAS have this function.
extern "C" __attribute__((weak)) int blas_thread_shutdown_();  // NOLINT(readability-identifier-naming)

namespace spikefloss {
namespace {

void end_blas_threads() {
    openblas_set_num_threads(1);
    if (blas_thread_shutdown_) blas_thread_shutdown_();
}

// glibc passes the arguments of main to constructors too.
__attribute__((constructor)) void prepare_blas(int, char** argv, char**) {
    const char* const kernels = better_blas_kernels(openblas_get_corename());  // null if this function has set them
    char program[PATH_MAX] = "";                                               // its own name, which ps and pkill show
    // Started through the loader (no AT_BASE), it would start the loader again.
    if (kernels && getauxval(AT_BASE) != 0 && readlink("/proc/self/exe", program, sizeof program - 1) > 0 &&
        setenv(blas_variable, kernels, 1) == 0) {
        execv(program, argv);
        unsetenv(blas_variable);  // the restart failed: slower, but correct
    }
    end_blas_threads();
}

}  // namespace
}  // namespace spikefloss
