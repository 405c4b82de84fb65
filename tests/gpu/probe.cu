// Five questions to a GPU, one a process: gpu_probe meet|lds|rz|int8|gram. No code of the backend runs here. If a probe
// fails, the cause is the machine.
//
//   meet  What does it cost to let the blocks of a team wait for each other, with and without separate fences? Plain,
//         cluster and cooperative launches each have a kernel of a few lines. Decides: what Team::wait gains without
//         fences, and the time of a meeting that plans of passes should assume.
//   lds   How many cycles of a multiprocessor does a load from shared memory take, by width and number of addresses?
//         Decides: how many columns and sequences a lane of the backward product should take.
//   rz    How exact are sums on tensor cores? A weight matrix in three bfloat16 parts times spikes, against double.
//         Decides: what the documentation may state about the error of large networks, and whether digits are needed.
//   int8  How long are the step products of N = 16384, B = 64 by bfloat16 parts, by float, and by int8 digits?
//         Decides: whether to keep W_rec as int8 digits, whose integer sums are exact in any order.
//   gram  How long are the operations of one QR of 16 sequences, k = 32, N = 512? Decides: whether flossing of large
//         networks needs a QR kernel of its own.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

void check_at(int line, int status) {
    if (status == 0) return;
    std::printf("failed: line %d gave %d, last error of CUDA: %s\n", line, status,
                cudaGetErrorString(cudaGetLastError()));
    std::exit(1);
}
// For calls of CUDA and of cuBLAS.
#define CHECK(call) check_at(__LINE__, static_cast<int>(call))

// Zeroed device memory, freed at the end.
template <class T>
class Array {
public:
    explicit Array(std::size_t count) : bytes_(count * sizeof(T)) {
        CHECK(cudaMalloc(&data_, bytes_));
        CHECK(cudaMemset(data_, 0, bytes_));
    }
    explicit Array(const std::vector<T>& values) : Array(values.size()) {
        CHECK(cudaMemcpy(data_, values.data(), bytes_, cudaMemcpyHostToDevice));
    }
    ~Array() { cudaFree(data_); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    T* data() { return static_cast<T*>(data_); }
    std::size_t bytes() const { return bytes_; }
    std::vector<T> to_host() const {
        std::vector<T> values(bytes_ / sizeof(T));
        CHECK(cudaMemcpy(values.data(), data_, bytes_, cudaMemcpyDeviceToHost));
        return values;
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_;
};

// The median of nine calls in microseconds, after two that are not counted.
double microseconds(const std::function<void()>& work) {
    cudaEvent_t begin = nullptr, end = nullptr;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 11; ++i) {
        CHECK(cudaEventRecord(begin));
        work();
        CHECK(cudaEventRecord(end));
        CHECK(cudaEventSynchronize(end));
        float milliseconds = 0.0f;
        CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        if (i >= 2) times.push_back(1e3f * milliseconds);
    }
    CHECK(cudaGetLastError());
    CHECK(cudaEventDestroy(begin));
    CHECK(cudaEventDestroy(end));
    std::sort(times.begin(), times.end());
    return static_cast<double>(times[times.size() / 2]);
}

class Blas {
public:
    Blas() { CHECK(cublasCreate(&handle_)); }
    ~Blas() { cublasDestroy(handle_); }
    Blas(const Blas&) = delete;
    Blas& operator=(const Blas&) = delete;

    // out [columns, rows] = a b' for row-major a [rows, inner] and b [columns, inner]: float sums, or int32 of int8.
    void product(cudaDataType type, int rows, int columns, int inner, const void* a, const void* b, void* out) {
        const float one = 1.0f, zero = 0.0f;
        const std::int32_t one_int = 1, zero_int = 0;
        const bool whole = type == CUDA_R_8I;
        CHECK(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, rows, columns, inner,
                           whole ? static_cast<const void*>(&one_int) : &one, a, type, inner, b, type, inner,
                           whole ? static_cast<const void*>(&zero_int) : &zero, out, whole ? CUDA_R_32I : CUDA_R_32F,
                           rows, whole ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    }
    cublasHandle_t handle() { return handle_; }

private:
    cublasHandle_t handle_ = nullptr;
};

// ---- meet ----

enum class Meeting { block, cluster_fence, cluster, grid_fences, grid };
bool of_cluster(Meeting how) { return how == Meeting::cluster_fence || how == Meeting::cluster; }
bool of_grid(Meeting how) { return how == Meeting::grid_fences || how == Meeting::grid; }

__device__ unsigned load_acquire(const unsigned* counter) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}
__device__ unsigned load_relaxed(const unsigned* counter) {
    unsigned value;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}

// With fences as Team::wait has them, or with the release and the acquire of the meeting alone.
__device__ void meet(Meeting how, unsigned* counter, unsigned& target, unsigned size) {
    if (how == Meeting::block) return __syncthreads();
    if (how == Meeting::cluster_fence || how == Meeting::cluster) {
        if (how == Meeting::cluster_fence) __threadfence();
#if __CUDA_ARCH__ >= 900
        asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
        return;
    }
    __syncthreads();
    target += size;
    if (threadIdx.x == 0) {
        if (how == Meeting::grid_fences) __threadfence();
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
        if (how == Meeting::grid_fences) {
            while (static_cast<int>(load_acquire(counter) - target) < 0) continue;
            __threadfence();
        } else {
            while (static_cast<int>(load_relaxed(counter) - target) < 0) continue;
            asm volatile("fence.acq_rel.gpu;" ::: "memory");
        }
    }
    __syncthreads();
}

constexpr unsigned counter_stride = 32, slots = 64;  // 128 bytes a counter; places of the stores

__global__ void meet_kernel(Meeting how, unsigned* counters, unsigned size, int rounds, bool stores, float* out) {
    unsigned target = 0;
    for (int round = 0; round < rounds; ++round) {
        const std::size_t slot = static_cast<unsigned>(round) % slots * gridDim.x + blockIdx.x;
        if (stores) out[slot * blockDim.x + threadIdx.x] = static_cast<float>(round);
        meet(how, counters + blockIdx.x / size * counter_stride, target, size);
    }
}

void probe_meet() {
    int multiprocessors = 0;
    CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    const unsigned most = static_cast<unsigned>(multiprocessors) / 32 * 32;  // teams of 32 fill the grid
    Array<unsigned> counters(counter_stride * most);
    Array<float> out(std::size_t{slots} * most * 512);
    struct Kind {
        Meeting how;
        const char* name;
        unsigned size, blocks, threads;
    };
    const Kind kinds[] = {{Meeting::block, "block", 1, 16, 96},
                          {Meeting::block, "block", 1, most, 512},
                          {Meeting::cluster_fence, "cluster of 2, fence", 2, most, 128},
                          {Meeting::cluster, "cluster of 2", 2, most, 128},
                          {Meeting::cluster_fence, "cluster of 8, fence", 8, most, 512},
                          {Meeting::cluster, "cluster of 8", 8, most, 512},
                          {Meeting::grid_fences, "32 blocks, fences", 32, most, 512},
                          {Meeting::grid, "32 blocks", 32, most, 512},
                          {Meeting::grid_fences, "whole grid, fences", most, most, 512},
                          {Meeting::grid, "whole grid", most, most, 512}};
    for (const Kind& kind : kinds)
        for (const bool stores : {false, true}) {
            const auto run = [&](int rounds) {
                CHECK(cudaMemsetAsync(counters.data(), 0, counters.bytes()));
                cudaLaunchAttribute attribute = {};
                if (of_cluster(kind.how)) {
                    attribute.id = cudaLaunchAttributeClusterDimension;
                    attribute.val.clusterDim.x = kind.size;
                    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
                } else {
                    attribute.id = cudaLaunchAttributeCooperative;
                    attribute.val.cooperative = of_grid(kind.how) ? 1 : 0;
                }
                cudaLaunchConfig_t config = {};
                config.gridDim = dim3(kind.blocks);
                config.blockDim = dim3(kind.threads);
                config.attrs = &attribute;
                config.numAttrs = of_cluster(kind.how) || of_grid(kind.how) ? 1 : 0;
                CHECK(cudaLaunchKernelEx(&config, meet_kernel, kind.how, counters.data(), kind.size, rounds, stores,
                                         out.data()));
            };
            const double all = microseconds([&] { run(2000); }), none = microseconds([&] { run(0); });
            std::printf("meet: %-20s %3u blocks of %3u threads, %-12s %.3f us\n", kind.name, kind.blocks, kind.threads,
                        stores ? "a store each" : "no stores", (all - none) / 2000.0);
            std::fflush(stdout);
        }
}

// ---- lds ----

enum class Load { words, same, two, four, all };

__device__ int lane_address(Load kind) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    switch (kind) {
        case Load::two: return lane / 16;
        case Load::four: return lane / 8;
        case Load::all: return lane;
        default: return 0;
    }
}

__global__ void lds_kernel(Load kind, int rounds, long long* cycles, float* out) {
    extern __shared__ float4 memory[];
    for (unsigned i = threadIdx.x; i < 2048; i += blockDim.x) memory[i] = {static_cast<float>(i), 2.0f, 3.0f, 4.0f};
    __syncthreads();
    const auto* words = reinterpret_cast<const float*>(memory);
    const int lane = static_cast<int>(threadIdx.x) % 32, address = lane_address(kind);
    float sum = 0.0f;
    const long long begin = clock64();
    for (int round = 0; round < rounds; ++round) {
        if (kind == Load::words) {
#pragma unroll
            for (int i = 0; i < 8; ++i) sum += words[((round * 8 + i) * 32 & 4095) + lane];
        } else {
            float4 x[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = memory[((round * 8 + i) * 37 & 1023) + address];
#pragma unroll
            for (int i = 0; i < 8; ++i) sum += x[i].x + x[i].y + x[i].z + x[i].w;
        }
    }
    const long long end = clock64();
    if (threadIdx.x == 0) *cycles = end - begin;
    out[threadIdx.x] = sum;
}

void probe_lds() {
    constexpr int rounds = 2000, threads = 512, loads = 8;
    Array<long long> cycles(1);
    Array<float> out(threads);
    struct Kind {
        Load load;
        const char* name;
    };
    const Kind kinds[] = {{Load::words, "32 bits, 32 words"},
                          {Load::same, "128 bits, one address"},
                          {Load::two, "128 bits, two addresses"},
                          {Load::four, "128 bits, four addresses"},
                          {Load::all, "128 bits, 32 addresses"}};
    for (const Kind& kind : kinds) {
        for (int i = 0; i < 2; ++i)
            lds_kernel<<<1, threads, 2048 * sizeof(float4)>>>(kind.load, rounds, cycles.data(), out.data());
        CHECK(cudaGetLastError());
        // 16 warps keep the loads busy. With 128 bits the additions of a load take four cycles at the same time.
        std::printf("lds: %-24s %.2f cycles of the multiprocessor for the load of a warp\n", kind.name,
                    static_cast<double>(cycles.to_host()[0]) / (static_cast<double>(rounds) * loads * threads / 32));
    }
}

// ---- rz ----

// Numbers without structure in [0, 1).
class Random {
public:
    double uniform() {
        state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<double>(state_ >> 11) * 0x1p-53;
    }
    double normal() {
        double sum = -6.0;
        for (int i = 0; i < 12; ++i) sum += uniform();
        return sum;
    }

private:
    std::uint64_t state_ = 1;
};

struct Deviation {
    double square = 0.0, signed_sum = 0.0;
    void add(double found, double exact) {
        square += (found - exact) * (found - exact);
        signed_sum += exact > 0.0 ? found - exact : exact - found;
    }
};

void probe_rz() {
    constexpr std::size_t rows = 256, columns = 64;
    Blas blas;
    for (const std::size_t inner : {1024u, 4096u, 16384u, 32000u}) {
        Random random;
        std::vector<float> w(rows * inner), spikes(columns * inner);
        for (float& x : w) x = static_cast<float>(random.normal());
        for (float& x : spikes) x = random.uniform() < 0.075 ? 1.0f : 0.0f;
        // The three parts of a row after each other, and three times the spikes.
        std::vector<__nv_bfloat16> parts(3 * w.size()), repeated(3 * spikes.size());
        for (std::size_t i = 0; i < w.size(); ++i) {
            float rest = w[i];
            for (std::size_t part = 0; part < 3; ++part) {
                const __nv_bfloat16 rounded = __float2bfloat16(rest);
                parts[(i / inner * 3 + part) * inner + i % inner] = rounded;
                rest -= __bfloat162float(rounded);
            }
        }
        for (std::size_t i = 0; i < spikes.size(); ++i)
            for (std::size_t part = 0; part < 3; ++part)
                repeated[(i / inner * 3 + part) * inner + i % inner] = __float2bfloat16(spikes[i]);
        Array<__nv_bfloat16> a(parts), b(repeated);
        Array<float> a_float(w), b_float(spikes), out(rows * columns);
        const int m = rows, n = columns, k = static_cast<int>(inner);
        blas.product(CUDA_R_16BF, m, n, 3 * k, a.data(), b.data(), out.data());
        const std::vector<float> by_parts = out.to_host();
        blas.product(CUDA_R_32F, m, n, k, a_float.data(), b_float.data(), out.data());
        const std::vector<float> by_float = out.to_host();
        double square = 0.0, magnitude = 0.0;
        Deviation of_parts, of_float;
        for (std::size_t column = 0; column < columns; ++column)
            for (std::size_t row = 0; row < rows; ++row) {
                double exact = 0.0;
                for (std::size_t i = 0; i < inner; ++i)
                    if (spikes[column * inner + i] > 0.0f) exact += static_cast<double>(w[row * inner + i]);
                square += exact * exact;
                magnitude += std::fabs(exact);
                of_parts.add(static_cast<double>(by_parts[column * rows + row]), exact);
                of_float.add(static_cast<double>(by_float[column * rows + row]), exact);
            }
        std::printf("rz: inner length %5d: bfloat16 parts: error %.1e, bias %+.1e; float: error %.1e, bias %+.1e\n", k,
                    std::sqrt(of_parts.square / square), of_parts.signed_sum / magnitude,
                    std::sqrt(of_float.square / square), of_float.signed_sum / magnitude);
        std::fflush(stdout);
    }
}

// ---- int8 ----

// Words without structure, and only with these bits: products of zeros draw less power and so run faster.
__global__ void scramble_kernel(std::size_t words, unsigned mask, unsigned* out) {
    const std::size_t first = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x;
    for (std::size_t i = first; i < words; i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
        unsigned x = static_cast<unsigned>(i) * 0x9E3779B9u + 1u;
        x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
        out[i] = (x ^ (x >> 13)) & mask;
    }
}
void scramble(Array<unsigned>& array, unsigned mask) {
    scramble_kernel<<<1024, 256>>>(array.bytes() / sizeof(unsigned), mask, array.data());
    CHECK(cudaGetLastError());
}

void probe_int8() {
    constexpr int N = 16384, B = 64;
    Blas blas;
    // Large enough for three bfloat16 parts, the largest of the forms.
    Array<unsigned> w(std::size_t{3} * N * N / 2), s(std::size_t{3} * N * B / 2);
    Array<float> out(std::size_t{4} * N * B);
    scramble(w, 0x3FFF3FFFu);  // finite as two bfloat16 and as a float
    scramble(s, 0x3FFF3FFFu);
    const double parts = microseconds([&] { blas.product(CUDA_R_16BF, N, B, 3 * N, w.data(), s.data(), out.data()); });
    const double plain = microseconds([&] { blas.product(CUDA_R_32F, N, B, N, w.data(), s.data(), out.data()); });
    std::printf("int8: W s by bfloat16 parts %.0f us (1.61 GB), as float %.0f us (1.07 GB)\n", parts, plain);
    std::fflush(stdout);
    scramble(w, 0xFFFFFFFFu);
    scramble(s, 0x01010101u);
    for (const int digits : {3, 4}) {
        const double time =
            microseconds([&] { blas.product(CUDA_R_8I, digits * N, B, N, w.data(), s.data(), out.data()); });
        std::printf("int8: W s by %d int8 digits %.0f us (%.2f GB)\n", digits, time, 1e-9 * digits * N * N);
    }
}

// ---- gram ----

__global__ void pointers_kernel(double* first, std::size_t stride, double** out) {
    out[threadIdx.x] = first + threadIdx.x * stride;
}
__global__ void identity_kernel(unsigned k, double* out) {
    for (unsigned i = threadIdx.x; i < k * k; i += blockDim.x)
        out[std::size_t{blockIdx.x} * k * k + i] = i % (k + 1) == 0 ? 1.0 : 0.0;
}

void probe_gram() {
    constexpr int sequences = 16, k = 32, rows = 1024, N = 1024;
    constexpr std::size_t basis = std::size_t{k} * rows, square = std::size_t{k} * k;
    Blas blas;
    Array<double> x(sequences * basis), factors(sequences * square), gram(sequences * square);
    Array<double*> of_factors(sequences), of_x(sequences);
    identity_kernel<<<sequences, 256>>>(k, factors.data());
    pointers_kernel<<<1, sequences>>>(factors.data(), square, of_factors.data());
    pointers_kernel<<<1, sequences>>>(x.data(), basis, of_x.data());
    CHECK(cudaGetLastError());
    const double one = 1.0, zero = 0.0;
    const double gram_time = microseconds([&] {
        CHECK(cublasDgemmStridedBatched(blas.handle(), CUBLAS_OP_T, CUBLAS_OP_N, k, k, rows, &one, x.data(), rows,
                                        basis, x.data(), rows, basis, &zero, gram.data(), k, square, sequences));
    });
    const double divide_time = microseconds([&] {
        CHECK(cublasDtrsmBatched(blas.handle(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T,
                                 CUBLAS_DIAG_NON_UNIT, rows, k, &one, of_factors.data(), k, of_x.data(), rows,
                                 sequences));
    });
    Array<float> w(std::size_t{N} * N), columns(std::size_t{sequences} * k * N), out(std::size_t{sequences} * k * N);
    const double product_time =
        microseconds([&] { blas.product(CUDA_R_32F, N, sequences * k, N, w.data(), columns.data(), out.data()); });
    std::printf(
        "gram: 16 Gram matrices of 1024 x 32 in double %.1f us, 16 divisions by a triangle %.1f us, "
        "product 1024 x 1024 x 512 in float %.1f us\n",
        gram_time, divide_time, product_time);
}

}  // namespace

int main(int argc, char** argv) {
    const struct {
        const char* name;
        void (*run)();
    } probes[] = {
        {"meet", probe_meet}, {"lds", probe_lds}, {"rz", probe_rz}, {"int8", probe_int8}, {"gram", probe_gram}};
    for (const auto& probe : probes)
        if (argc == 2 && std::string(argv[1]) == probe.name) {
            probe.run();
            CHECK(cudaDeviceSynchronize());
            return 0;
        }
    std::printf("usage: gpu_probe meet|lds|rz|int8|gram\n");
    return 2;
}
