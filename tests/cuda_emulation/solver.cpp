// cuSOLVER over LAPACK, with the same info values. The _work functions of LAPACKE are used, because they do not check
// for NaN and allocate nothing.
#include <cusolverDn.h>
#include "streams.hpp"

#include <lapacke.h>

using namespace emulation;

struct cusolverDnContext {
    cudaStream_t stream = nullptr;
};

namespace {

char letter(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_LOWER ? 'L' : 'U'; }

int at_least_one(int x) { return x > 1 ? x : 1; }

cusolverStatus_t enqueue(cusolverDnHandle_t handle, const char* name, std::function<void()> work) {
    return queue(handle->stream, name, std::move(work)) == cudaSuccess ? CUSOLVER_STATUS_SUCCESS
                                                                       : CUSOLVER_STATUS_EXECUTION_FAILED;
}

// The workspace LAPACK wants for blocks of 64 columns.
int workspace(int n) { return at_least_one(n) * 64; }

}  // namespace

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
    if (answer(cudaSuccess) != cudaSuccess) return CUSOLVER_STATUS_NOT_INITIALIZED;
    *handle = new cusolverDnContext;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

// a: pointers in device memory; info: one per matrix, in device memory. The other triangle is not changed.
cusolverStatus_t cusolverDnDpotrfBatched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, double* a[], int lda,
                                         int* info, int batch) {
    if (n < 0 || lda < at_least_one(n) || batch < 0 || fill == CUBLAS_FILL_MODE_FULL)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, "cusolverDnDpotrfBatched", [=] {
        for (int s = 0; s < batch; ++s) info[s] = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, letter(fill), n, a[s], lda);
    });
}

cusolverStatus_t cusolverDnDgeqrf_bufferSize(cusolverDnHandle_t, int m, int n, double*, int lda, int* elements) {
    if (m < 0 || n < 0 || lda < at_least_one(m)) return CUSOLVER_STATUS_INVALID_VALUE;
    *elements = workspace(n);
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDgeqrf(cusolverDnHandle_t handle, int m, int n, double* a, int lda, double* tau,
                                  double* work, int elements, int* info) {
    if (m < 0 || n < 0 || lda < at_least_one(m) || elements < workspace(n)) return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, "cusolverDnDgeqrf",
                   [=] { *info = LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, m, n, a, lda, tau, work, elements); });
}

cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t, int m, int n, int k, const double*, int lda,
                                             const double*, int* elements) {
    if (m < n || n < k || k < 0 || lda < at_least_one(m)) return CUSOLVER_STATUS_INVALID_VALUE;
    *elements = workspace(n);
    return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* a, int lda, const double* tau,
                                  double* work, int elements, int* info) {
    if (m < n || n < k || k < 0 || lda < at_least_one(m) || elements < workspace(n))
        return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, "cusolverDnDorgqr",
                   [=] { *info = LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, m, n, k, a, lda, tau, work, elements); });
}
