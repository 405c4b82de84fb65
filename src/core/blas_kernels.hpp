// Which kernels OpenBLAS should have. It chooses them when it is loaded, and on a processor newer than itself it takes
// those of 2004 (SSE3), which are several times slower and less exact. Only an environment variable can change this.
#pragma once

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace spikefloss {

constexpr const char* blas_variable = "OPENBLAS_CORETYPE";

// The name for blas_variable if OpenBLAS by itself takes the kernels `chosen`; null: leave it to OpenBLAS, or to the
// user, who has set the variable.
inline const char* better_blas_kernels([[maybe_unused]] const char* chosen) {
#if defined(__x86_64__)
    if (std::getenv(blas_variable)) return nullptr;
    bool unknown = false;  // the kernels that OpenBLAS takes for a processor it does not know
    for (const char* old : {"Prescott", "Nehalem", "Sandybridge", "Barcelona", "Generic"})
        unknown = unknown || std::strcmp(chosen, old) == 0;
    __builtin_cpu_init();
    if (!unknown || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx512 ? "SkylakeX" : "Haswell";
#else
    return nullptr;
#endif
}

}  // namespace spikefloss
