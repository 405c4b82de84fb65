// cuBLAS: the handle, products with a vector, triangular solves and products, QR.
#include "blas_handle.hpp"

#include <cblas.h>
#include <lapacke.h>

using namespace emulation;

// ---- the handle ----

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    if (answer(cudaSuccess) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->workspace = false;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* memory, std::size_t bytes) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->workspace = memory && bytes > 0;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    handle->math = static_cast<cublasMath_t>(mode & 0xF);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t) {
    return handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}
cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
        case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "unknown cuBLAS status";
}

const char* cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
        case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
        case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
        default: return "an internal operation failed";
    }
}

// ---- products with a vector ----

cublasStatus_t cublasSgemv(cublasHandle_t handle, cublasOperation_t op, int m, int n, const float* alpha,
                           const float* a, int lda, const float* x, int x_step, const float* beta, float* y,
                           int y_step) {
    if (m < 0 || n < 0 || lda < m || x_step == 0 || y_step == 0) return CUBLAS_STATUS_INVALID_VALUE;
    const Scalar<float> by(handle, alpha), keep(handle, beta);
    return enqueue(handle, "cublasSgemv", [=] {
        cblas_sgemv(CblasColMajor, op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, by.get(), a, lda, x, x_step,
                    keep.get(), y, y_step);
    });
}
cublasStatus_t cublasDgemv(cublasHandle_t handle, cublasOperation_t op, int m, int n, const double* alpha,
                           const double* a, int lda, const double* x, int x_step, const double* beta, double* y,
                           int y_step) {
    if (m < 0 || n < 0 || lda < m || x_step == 0 || y_step == 0) return CUBLAS_STATUS_INVALID_VALUE;
    const Scalar<double> by(handle, alpha), keep(handle, beta);
    return enqueue(handle, "cublasDgemv", [=] {
        cblas_dgemv(CblasColMajor, op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, by.get(), a, lda, x, x_step,
                    keep.get(), y, y_step);
    });
}

// ---- triangular ----

namespace {

struct Triangle {
    cublasSideMode_t side;
    cublasFillMode_t fill;
    cublasOperation_t op;
    cublasDiagType_t diagonal;
    int m, n, lda, ldb;

    CBLAS_SIDE cblas_side() const { return side == CUBLAS_SIDE_LEFT ? CblasLeft : CblasRight; }
    CBLAS_UPLO cblas_fill() const { return fill == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper; }
    CBLAS_TRANSPOSE cblas_op() const { return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }
    CBLAS_DIAG cblas_diagonal() const { return diagonal == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit; }
    bool wrong() const {
        const int order = side == CUBLAS_SIDE_LEFT ? m : n;
        return m < 0 || n < 0 || fill == CUBLAS_FILL_MODE_FULL || lda < (order > 1 ? order : 1) ||
               ldb < (m > 1 ? m : 1);
    }
};

void solve(const Triangle& t, float alpha, const float* a, float* b) {
    cblas_strsm(CblasColMajor, t.cblas_side(), t.cblas_fill(), t.cblas_op(), t.cblas_diagonal(), t.m, t.n, alpha, a,
                t.lda, b, t.ldb);
}
void solve(const Triangle& t, double alpha, const double* a, double* b) {
    cblas_dtrsm(CblasColMajor, t.cblas_side(), t.cblas_fill(), t.cblas_op(), t.cblas_diagonal(), t.m, t.n, alpha, a,
                t.lda, b, t.ldb);
}

template <class T>
cublasStatus_t trsm(cublasHandle_t handle, const Triangle& t, const T* alpha, const T* a, T* b) {
    if (t.wrong()) return CUBLAS_STATUS_INVALID_VALUE;
    const Scalar<T> by(handle, alpha);
    return enqueue(handle, "cublas trsm", [=] { solve(t, by.get(), a, b); });
}

template <class T>
cublasStatus_t trsm_batched(cublasHandle_t handle, const Triangle& t, const T* alpha, const T* const a[], T* const b[],
                            int batch) {
    if (t.wrong() || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    const Scalar<T> by(handle, alpha);
    return enqueue(handle, "cublas trsmBatched", [=] {
        for (int s = 0; s < batch; ++s) solve(t, by.get(), a[s], b[s]);
    });
}

}  // namespace

cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const float* alpha, const float* a, int lda,
                           float* b, int ldb) {
    return trsm<float>(handle, {side, fill, op, diagonal, m, n, lda, ldb}, alpha, a, b);
}
cublasStatus_t cublasDtrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                           double* b, int ldb) {
    return trsm<double>(handle, {side, fill, op, diagonal, m, n, lda, ldb}, alpha, a, b);
}
cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const float* alpha,
                                  const float* const a[], int lda, float* const b[], int ldb, int batch) {
    return trsm_batched<float>(handle, {side, fill, op, diagonal, m, n, lda, ldb}, alpha, a, b, batch);
}
cublasStatus_t cublasDtrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const double* alpha,
                                  const double* const a[], int lda, double* const b[], int ldb, int batch) {
    return trsm_batched<double>(handle, {side, fill, op, diagonal, m, n, lda, ldb}, alpha, a, b, batch);
}

// C = alpha op(A) B or alpha B op(A); out of place, or in place when C is B.
cublasStatus_t cublasDtrmm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill, cublasOperation_t op,
                           cublasDiagType_t diagonal, int m, int n, const double* alpha, const double* a, int lda,
                           const double* b, int ldb, double* c, int ldc) {
    const Triangle t{side, fill, op, diagonal, m, n, lda, ldb};
    if (t.wrong() || ldc < (m > 1 ? m : 1)) return CUBLAS_STATUS_INVALID_VALUE;
    const Scalar<double> by(handle, alpha);
    return enqueue(handle, "cublasDtrmm", [=] {
        if (b != c)
            for (int col = 0; col < n; ++col)
                cblas_dcopy(m, b + std::ptrdiff_t(col) * ldb, 1, c + std::ptrdiff_t(col) * ldc, 1);
        cblas_dtrmm(CblasColMajor, t.cblas_side(), t.cblas_fill(), t.cblas_op(), t.cblas_diagonal(), m, n, by.get(), a,
                    lda, c, ldc);
    });
}

// ---- QR ----

cublasStatus_t cublasDgeqrfBatched(cublasHandle_t handle, int m, int n, double* const a[], int lda, double* const tau[],
                                   int* info, int batch) {
    *info = m < 0 ? -1 : n < 0 ? -2 : !a ? -3 : lda < (m > 1 ? m : 1) ? -4 : !tau ? -5 : batch < 0 ? -7 : 0;
    if (*info) return CUBLAS_STATUS_INVALID_VALUE;
    return enqueue(handle, "cublasDgeqrfBatched", [=] {
        std::vector<double> work(static_cast<std::size_t>(n) * 64 + 1);
        for (int s = 0; s < batch; ++s)
            LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, m, n, a[s], lda, tau[s], work.data(), static_cast<int>(work.size()));
    });
}
