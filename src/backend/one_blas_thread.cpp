#include "backend/one_blas_thread.hpp"

#include "core/error.hpp"

#include <cblas.h>

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <string_view>

namespace spikefloss {
namespace {

std::mutex mutex;
int objects = 0, threads_before = 0;

// OpenBLAS takes the kernels that OPENBLAS_CORETYPE names, also those with instructions that the processor lacks. The
// first product would then end the process (SIGILL).
void require_blas_kernels() {
#if defined(__x86_64__)
    const std::string_view kernels = openblas_get_corename();
    const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
        return std::find(names.begin(), names.end(), kernels) != names.end();
    };
    __builtin_cpu_init();
    const bool avx = __builtin_cpu_supports("avx"),
               avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
               avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool runs = is_one_of({"SkylakeX", "Cooperlake", "SapphireRapids"})                ? avx512
                      : is_one_of({"Haswell", "Zen", "Excavator"})                           ? avx2
                      : is_one_of({"Sandybridge", "Bulldozer", "Piledriver", "Steamroller"}) ? avx
                                                                                             : true;
    require(runs, Exit::usage,
            fmt::format("OpenBLAS has its kernels for {}, with instructions that this processor lacks", kernels),
            "unset the environment variable OPENBLAS_CORETYPE, so that OpenBLAS chooses kernels that fit");
#endif
}

}  // namespace

OneBlasThread::OneBlasThread() {
    require_blas_kernels();
    const std::lock_guard lock(mutex);
    if (objects++ > 0) return;
    threads_before = openblas_get_num_threads();
    if (threads_before > 1) openblas_set_num_threads(1);  // the call would start threads that were ended
}

OneBlasThread::~OneBlasThread() {
    const std::lock_guard lock(mutex);
    if (--objects == 0 && threads_before > 1) openblas_set_num_threads(threads_before);
}

}  // namespace spikefloss
