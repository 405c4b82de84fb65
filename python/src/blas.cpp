// spikefloss._blas: what OPENBLAS_CORETYPE should be while the package loads OpenBLAS. It does not link OpenBLAS.
#include "core/blas_kernels.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>

#include <dlfcn.h>

namespace nb = nanobind;
namespace {

constexpr const char* library_name = "libopenblas.so.0";

// OpenBLAS is loaded, asked which kernels it has taken, and unloaded (4 ms). None: these are the right ones; or other
// code of the process has loaded it before; or the library has another name, as in a wheel with its own copy.
std::optional<std::string> better_kernels() {
    if (dlopen(library_name, RTLD_LAZY | RTLD_NOLOAD)) return std::nullopt;
    void* const library = dlopen(library_name, RTLD_LAZY | RTLD_LOCAL);
    if (!library) return std::nullopt;
    const auto name = reinterpret_cast<const char* (*)()>(dlsym(library, "openblas_get_corename"));
    const char* const kernels = name ? spikefloss::better_blas_kernels(name()) : nullptr;
    dlclose(library);
    return kernels ? std::optional<std::string>(kernels) : std::nullopt;
}

}  // namespace

NB_MODULE(_blas, module) {
    module.attr("VARIABLE") = spikefloss::blas_variable;
    module.def("better_kernels", &better_kernels,
               "The kernels that OpenBLAS should have in place of its own choice. None: leave it alone.");
}
