// cuBLAS over BLAS. Scalars are read at the call. Arrays of matrix pointers are in device memory and are read when the
// work runs. As on a device, C is not read when beta is 0.
#include "blas_handle.hpp"

#include <cuda_bf16.h>
#include "streams.hpp"

#include <cblas.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

using namespace emulation;

namespace {

struct Operand {
    const void* data;
    cudaDataType type;
    std::int64_t ld;
    long long stride = 0;
};

struct Product {
    cublasOperation_t op_a, op_b;
    std::int64_t m, n, k, batch;
    Operand a, b, c;
    cublasComputeType_t compute;
};

CBLAS_TRANSPOSE transpose(cublasOperation_t op) { return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

std::size_t size_of(cudaDataType type) {
    return type == CUDA_R_64F ? 8 : type == CUDA_R_32F || type == CUDA_R_32I ? 4 : type == CUDA_R_8I ? 1 : 2;
}

double element(const Operand& x, std::int64_t at) {
    if (x.type == CUDA_R_8I) return static_cast<const std::int8_t*>(x.data)[at];
    if (x.type == CUDA_R_64F) return static_cast<const double*>(x.data)[at];
    if (x.type == CUDA_R_32F) return static_cast<const float*>(x.data)[at];
    return __bfloat162float(static_cast<const __nv_bfloat16*>(x.data)[at]);
}

void set_element(const Operand& x, std::int64_t at, double value) {
    void* data = const_cast<void*>(x.data);
    if (x.type == CUDA_R_64F)
        static_cast<double*>(data)[at] = value;
    else if (x.type == CUDA_R_32F)
        static_cast<float*>(data)[at] = static_cast<float>(value);
    else
        static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(static_cast<float>(value));
}

// The bits of a fraction that tensor cores keep: 10 (TF32) or 7 (bfloat16).
double reduced(double x, cublasComputeType_t compute) {
    if (compute == CUBLAS_COMPUTE_32F_FAST_16BF) return __bfloat162float(__float2bfloat16(static_cast<float>(x)));
    auto value = static_cast<float>(x);
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x1000u) & ~0x1FFFu;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

bool is_reduced(cublasComputeType_t compute) {
    return compute == CUBLAS_COMPUTE_32F_FAST_16BF || compute == CUBLAS_COMPUTE_32F_FAST_TF32;
}

template <class T>
std::vector<T> converted(const Operand& x, std::int64_t rows, std::int64_t cols, cublasComputeType_t compute) {
    std::vector<T> out(static_cast<std::size_t>(rows * cols));
    for (std::int64_t col = 0; col < cols; ++col)
        for (std::int64_t row = 0; row < rows; ++row) {
            const double value = element(x, row + col * x.ld);
            out[static_cast<std::size_t>(row + col * rows)] =
                static_cast<T>(is_reduced(compute) && x.type == CUDA_R_32F ? reduced(value, compute) : value);
        }
    return out;
}

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
               const float* b, int ldb, float beta, float* c, int ldc) {
    cblas_sgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
               const double* b, int ldb, double beta, double* c, int ldc) {
    cblas_dgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

Operand of_batch(Operand x, std::int64_t s) {
    x.data = static_cast<const char*>(x.data) + s * x.stride * static_cast<long long>(size_of(x.type));
    return x;
}

template <class T>
constexpr cudaDataType type_of = sizeof(T) == 8 ? CUDA_R_64F : CUDA_R_32F;

float truncated(double x) {
    const auto rounded = static_cast<float>(x);
    return std::abs(static_cast<double>(rounded)) > std::abs(x) ? std::nextafter(rounded, 0.0f) : rounded;
}

// Column-major sum [m, n] = A B as tensor cores add: blocks of 16 products exactly, and each block to a float sum that
// is truncated, not rounded (Fasi et al., PeerJ CS 330). A [rows_a, ...] and B [rows_b, ...] as stored.
std::vector<float> tensor_core_sum(const Product& p, const std::vector<double>& a, std::int64_t rows_a,
                                   const std::vector<double>& b, std::int64_t rows_b) {
    constexpr std::int64_t block = 16;
    const auto m = static_cast<int>(p.m), n = static_cast<int>(p.n);
    std::vector<float> sum(static_cast<std::size_t>(p.m * p.n));
    std::vector<double> part(sum.size());
    for (std::int64_t first = 0; first < p.k; first += block) {
        const double* a_part = a.data() + (p.op_a == CUBLAS_OP_N ? first * rows_a : first);
        const double* b_part = b.data() + (p.op_b == CUBLAS_OP_N ? first : first * rows_b);
        blas_gemm(transpose(p.op_a), transpose(p.op_b), m, n, static_cast<int>(std::min(block, p.k - first)), 1.0,
                  a_part, static_cast<int>(rows_a), b_part, static_cast<int>(rows_b), 0.0, part.data(), m);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = truncated(static_cast<double>(sum[i]) + part[i]);
    }
    return sum;
}

// One product with sums in T.
template <class T>
void multiply(const Product& p, Operand a, Operand b, Operand c, T alpha, T beta) {
    const auto m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
    const bool plain = a.type == type_of<T> && b.type == type_of<T> && c.type == type_of<T> && !is_reduced(p.compute);
    if (plain)
        return blas_gemm(transpose(p.op_a), transpose(p.op_b), m, n, k, alpha, static_cast<const T*>(a.data),
                         static_cast<int>(a.ld), static_cast<const T*>(b.data), static_cast<int>(b.ld), beta,
                         static_cast<T*>(const_cast<void*>(c.data)), static_cast<int>(c.ld));
    const auto rows_a = p.op_a == CUBLAS_OP_N ? p.m : p.k, rows_b = p.op_b == CUBLAS_OP_N ? p.k : p.n;
    const auto a_copy = converted<double>(a, rows_a, p.m + p.k - rows_a, p.compute);
    const auto b_copy = converted<double>(b, rows_b, p.k + p.n - rows_b, p.compute);
    const std::vector<float> sum = tensor_core_sum(p, a_copy, rows_a, b_copy, rows_b);
    for (std::int64_t col = 0; col < p.n; ++col)
        for (std::int64_t row = 0; row < p.m; ++row) {
            const double before = beta == T(0) ? 0.0 : static_cast<double>(beta) * element(c, row + col * c.ld);
            const auto product = static_cast<double>(sum[static_cast<std::size_t>(row + col * p.m)]);
            set_element(c, row + col * c.ld, static_cast<double>(alpha) * product + before);
        }
}

// C [m, n] = A' B of 8-bit integers, with 32-bit sums. Sums of doubles are exact here.
void multiply_integers(const Product& p) {
    const auto a = converted<double>(p.a, p.k, p.m, p.compute), b = converted<double>(p.b, p.k, p.n, p.compute);
    const auto m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
    std::vector<double> sum(static_cast<std::size_t>(p.m * p.n));
    blas_gemm(CblasTrans, CblasNoTrans, m, n, k, 1.0, a.data(), k, b.data(), k, 0.0, sum.data(), m);
    auto* const c = static_cast<std::int32_t*>(const_cast<void*>(p.c.data));
    for (std::int64_t col = 0; col < p.n; ++col)
        for (std::int64_t row = 0; row < p.m; ++row)  // a sum that is too large wraps round
            c[row + col * p.c.ld] =
                static_cast<std::int32_t>(static_cast<std::int64_t>(sum[static_cast<std::size_t>(row + col * p.m)]));
}

// What the integer products of the tensor cores want: A turned, B not; sides and strides of whole words.
bool fits_integer_units(const Product& p, const void* alpha, const void* beta) {
    const auto words = [](const Operand& x) {
        return reinterpret_cast<std::uintptr_t>(x.data) % 4 == 0 && x.ld % 4 == 0;
    };
    return p.op_a == CUBLAS_OP_T && p.op_b == CUBLAS_OP_N && p.m % 4 == 0 && p.k % 4 == 0 && words(p.a) && words(p.b) &&
           words(p.c) && *static_cast<const std::int32_t*>(alpha) == 1 && *static_cast<const std::int32_t*>(beta) == 0;
}

bool wrong(const Product& p) {
    const auto rows_a = p.op_a == CUBLAS_OP_N ? p.m : p.k, rows_b = p.op_b == CUBLAS_OP_N ? p.k : p.n;
    const auto at_least_one = [](std::int64_t x) { return x > 1 ? x : 1; };
    return p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0 || p.a.ld < at_least_one(rows_a) ||
           p.b.ld < at_least_one(rows_b) || p.c.ld < at_least_one(p.m);
}

template <class T>
cublasStatus_t enqueue_product(cublasHandle_t handle, Product p, const void* alpha, const void* beta) {
    return enqueue(handle, "cublas gemm", [p, by = *static_cast<const T*>(alpha), keep = *static_cast<const T*>(beta)] {
        for (std::int64_t s = 0; s < p.batch; ++s)
            multiply<T>(p, of_batch(p.a, s), of_batch(p.b, s), of_batch(p.c, s), by, keep);
    });
}

cublasStatus_t product(cublasHandle_t handle, Product p, const void* alpha, const void* beta) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (wrong(p) || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.m == 0 || p.n == 0 || p.batch == 0) return CUBLAS_STATUS_SUCCESS;
    if (p.compute == CUBLAS_COMPUTE_32I) {
        if (p.a.type != CUDA_R_8I || p.b.type != CUDA_R_8I || p.c.type != CUDA_R_32I ||
            !fits_integer_units(p, alpha, beta))
            return CUBLAS_STATUS_NOT_SUPPORTED;
        return enqueue(handle, "cublas gemm of int8", [p] { multiply_integers(p); });
    }
    const bool in_double = p.compute == CUBLAS_COMPUTE_64F;
    for (cudaDataType type : {p.a.type, p.b.type, p.c.type})
        if ((type == CUDA_R_64F) != in_double || (type != CUDA_R_64F && type != CUDA_R_32F && type != CUDA_R_16BF))
            return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.a.type != p.b.type || (p.a.type == CUDA_R_32F && p.c.type != CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    return in_double ? enqueue_product<double>(handle, p, alpha, beta) : enqueue_product<float>(handle, p, alpha, beta);
}

}  // namespace

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    return product(handle, {op_a, op_b, m, n, k, 1, {a, a_type, lda}, {b, b_type, ldb}, {c, c_type, ldc}, compute},
                   alpha, beta);
}

cublasStatus_t cublasDgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const double* alpha, const double* a, int lda, const double* b, int ldb, const double* beta,
                           double* c, int ldc) {
    return cublasDgemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                         int n, int k, const double* alpha, const double* a, int lda,
                                         long long a_stride, const double* b, int ldb, long long b_stride,
                                         const double* beta, double* c, int ldc, long long c_stride, int batch) {
    const Operand a_all{a, CUDA_R_64F, lda, a_stride}, b_all{b, CUDA_R_64F, ldb, b_stride};
    const Operand c_all{c, CUDA_R_64F, ldc, c_stride};
    return product(handle, {op_a, op_b, m, n, k, batch, a_all, b_all, c_all, CUBLAS_COMPUTE_64F}, alpha, beta);
}
