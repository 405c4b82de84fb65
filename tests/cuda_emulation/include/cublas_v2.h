// The cuBLAS calls that spikefloss uses, executed by BLAS and LAPACK. Column-major; queued on the handle's stream.
#pragma once

#include "cuda_runtime_api.h"
#include "library_types.h"

#include <cstdint>

enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_ARCH_MISMATCH = 8,
    CUBLAS_STATUS_MAPPING_ERROR = 11,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_INTERNAL_ERROR = 14,
    CUBLAS_STATUS_NOT_SUPPORTED = 15,
    CUBLAS_STATUS_LICENSE_ERROR = 16
};
enum cublasFillMode_t { CUBLAS_FILL_MODE_LOWER = 0, CUBLAS_FILL_MODE_UPPER = 1, CUBLAS_FILL_MODE_FULL = 2 };
enum cublasDiagType_t { CUBLAS_DIAG_NON_UNIT = 0, CUBLAS_DIAG_UNIT = 1 };
enum cublasSideMode_t { CUBLAS_SIDE_LEFT = 0, CUBLAS_SIDE_RIGHT = 1 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasPointerMode_t { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 };
enum cublasAtomicsMode_t { CUBLAS_ATOMICS_NOT_ALLOWED = 0, CUBLAS_ATOMICS_ALLOWED = 1 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1, CUBLAS_GEMM_DEFAULT_TENSOR_OP = 99 };
enum cublasMath_t {
    CUBLAS_DEFAULT_MATH = 0,
    CUBLAS_TENSOR_OP_MATH = 1,
    CUBLAS_PEDANTIC_MATH = 2,
    CUBLAS_TF32_TENSOR_OP_MATH = 3,
    CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16
};
enum cublasComputeType_t {
    CUBLAS_COMPUTE_32F = 68,
    CUBLAS_COMPUTE_32F_PEDANTIC = 69,
    CUBLAS_COMPUTE_32F_FAST_16BF = 75,
    CUBLAS_COMPUTE_32F_FAST_TF32 = 77,
    CUBLAS_COMPUTE_64F = 70,
    CUBLAS_COMPUTE_64F_PEDANTIC = 71
};

struct cublasContext;
using cublasHandle_t = cublasContext*;

cublasStatus_t cublasCreate(cublasHandle_t* handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t bytes);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode);
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode);
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode);
cublasStatus_t cublasGetVersion(cublasHandle_t handle, int* version);
const char* cublasGetStatusName(cublasStatus_t status);
const char* cublasGetStatusString(cublasStatus_t status);

// ---- products: op(A) m x k, op(B) k x n, C m x n ----
cublasStatus_t cublasSgemm(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                           float* c, int ldc);
cublasStatus_t cublasDgemm(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const double* alpha, const double* a, int lda, const double* b, int ldb, const double* beta,
                           double* c, int ldc);
cublasStatus_t cublasSgemm_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                              std::int64_t n, std::int64_t k, const float* alpha, const float* a, std::int64_t lda,
                              const float* b, std::int64_t ldb, const float* beta, float* c, std::int64_t ldc);
cublasStatus_t cublasDgemm_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                              std::int64_t n, std::int64_t k, const double* alpha, const double* a, std::int64_t lda,
                              const double* b, std::int64_t ldb, const double* beta, double* c, std::int64_t ldc);
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm);
cublasStatus_t cublasGemmEx_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                               std::int64_t n, std::int64_t k, const void* alpha, const void* a, cudaDataType a_type,
                               std::int64_t lda, const void* b, cudaDataType b_type, std::int64_t ldb, const void* beta,
                               void* c, cudaDataType c_type, std::int64_t ldc, cublasComputeType_t compute,
                               cublasGemmAlgo_t algorithm);
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                         int k, const float* alpha, const float* a, int lda, long long a_stride,
                                         const float* b, int ldb, long long b_stride, const float* beta, float* c,
                                         int ldc, long long c_stride, int batch);
cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                         int k, const double* alpha, const double* a, int lda, long long a_stride,
                                         const double* b, int ldb, long long b_stride, const double* beta, double* c,
                                         int ldc, long long c_stride, int batch);
cublasStatus_t cublasSgemmStridedBatched_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b,
                                            std::int64_t m, std::int64_t n, std::int64_t k, const float* alpha,
                                            const float* a, std::int64_t lda, long long a_stride, const float* b,
                                            std::int64_t ldb, long long b_stride, const float* beta, float* c,
                                            std::int64_t ldc, long long c_stride, std::int64_t batch);
cublasStatus_t cublasDgemmStridedBatched_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b,
                                            std::int64_t m, std::int64_t n, std::int64_t k, const double* alpha,
                                            const double* a, std::int64_t lda, long long a_stride, const double* b,
                                            std::int64_t ldb, long long b_stride, const double* beta, double* c,
                                            std::int64_t ldc, long long c_stride, std::int64_t batch);
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                          int k, const void* alpha, const void* a, cudaDataType a_type, int lda,
                                          long long a_stride, const void* b, cudaDataType b_type, int ldb,
                                          long long b_stride, const void* beta, void* c, cudaDataType c_type, int ldc,
                                          long long c_stride, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t algorithm);
cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b,
                                             std::int64_t m, std::int64_t n, std::int64_t k, const void* alpha,
                                             const void* a, cudaDataType a_type, std::int64_t lda, long long a_stride,
                                             const void* b, cudaDataType b_type, std::int64_t ldb, long long b_stride,
                                             const void* beta, void* c, cudaDataType c_type, std::int64_t ldc,
                                             long long c_stride, std::int64_t batch, cublasComputeType_t compute,
                                             cublasGemmAlgo_t algorithm);
cublasStatus_t cublasSgemv(cublasHandle_t, cublasOperation_t op, int m, int n, const float* alpha, const float* a,
                           int lda, const float* x, int x_step, const float* beta, float* y, int y_step);
cublasStatus_t cublasDgemv(cublasHandle_t, cublasOperation_t op, int m, int n, const double* alpha, const double* a,
                           int lda, const double* x, int x_step, const double* beta, double* y, int y_step);

// ---- triangular ----
cublasStatus_t cublasStrsm(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const float* alpha, const float* a, int lda,
                           float* b, int ldb);
cublasStatus_t cublasDtrsm(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                           double* b, int ldb);
cublasStatus_t cublasStrsmBatched(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                                  cublasDiagType_t diagonal, int m, int n, const float* alpha, const float* const a[],
                                  int lda, float* const b[], int ldb, int batch);
cublasStatus_t cublasDtrsmBatched(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                                  cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* const a[],
                                  int lda, double* const b[], int ldb, int batch);
cublasStatus_t cublasDtrmm(cublasHandle_t, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                           const double* b, int ldb, double* c, int ldc);

// ---- QR of each matrix of an array; info, on the host, is the number of a wrong argument ----
cublasStatus_t cublasDgeqrfBatched(cublasHandle_t, int m, int n, double* const a[], int lda, double* const tau[],
                                   int* info, int batch);
