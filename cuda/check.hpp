// Turns errors of the CUDA libraries into spikefloss errors, with the call, its place, the library's text and a remedy.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>

#include <source_location>

namespace spikefloss {

// Each throws Error(Exit::internal), or Error(Exit::usage) when the device has no memory left, unless `result` is
// success. call: the function's name.
void check(cudaError_t result, const char* call, std::source_location place = std::source_location::current());
void check(cublasStatus_t result, const char* call, std::source_location place = std::source_location::current());
void check(cusolverStatus_t result, const char* call, std::source_location place = std::source_location::current());

}  // namespace spikefloss
