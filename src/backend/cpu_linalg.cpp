// Sums and element-wise operations of the CPU backend.
#include "backend/cpu_backend.hpp"
#include "backend/lane.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Eight partial sums and the rest in the first, as sum_in_lanes adds.
double squares_of(const float* x, Index count) {
    WideLane low = zero_wide_lane(), high = zero_wide_lane();
    Index i = 0;
    for (; i + lane_size <= count; i += lane_size) {
        const WideLane a = load_wide(x + i), b = load_wide(x + i + wide_lane_size);
        low = add(low, multiply(a, a)), high = add(high, multiply(b, b));
    }
    double sums[lane_size], total = 0.0;
    store(sums, low), store(sums + wide_lane_size, high);
    for (; i < count; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
    for (const double sum : sums) total += sum;
    return total;
}

}  // namespace

void CpuBackend::add_column_sums(Matrix<const float> a, SumMatrix c) {
    // Always in double: there are steps times sequences rows, so many that float would lose digits.
    double* const total = scratch<double>(a.cols);
    if (counting()) return;
    std::fill_n(total, a.cols, 0.0);
    const Index parts = std::max<Index>(1, std::min<Index>(threads_for(a.rows * a.cols), a.cols / tile));
#pragma omp parallel for num_threads(static_cast<int>(parts)) if (parts > 1) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        const Index begin = a.cols * part / parts, end = a.cols * (part + 1) / parts;
        for (Index i = 0; i < a.rows; ++i)
#pragma omp simd
            for (Index j = begin; j < end; ++j) total[j] += a.data[i * a.stride + j];
    }
    const auto add_to = [&](auto* sum) {
        using T = std::remove_pointer_t<decltype(sum)>;
        for (Index j = 0; j < a.cols; ++j) sum[j] = static_cast<T>(sum[j] + total[j]);
    };
    if (c.type == Scalar::float32)
        add_to(static_cast<float*>(c.data));
    else
        add_to(static_cast<double*>(c.data));
}

void CpuBackend::round_sums(const void* in, float* out, Index count) {
    if (sums_ == Sums::float32)
        copy(out, in, static_cast<std::size_t>(count) * sizeof(float));
    else
        for (Index i = 0; i < count; ++i) out[i] = static_cast<float>(static_cast<const double*>(in)[i]);
}

void CpuBackend::sum_squares(std::span<const Squares> all) {
    if (counting()) return;
    for (const auto& [x, rows, cols, stride, sum] : all) {
        const bool one = stride == cols;
        for (Index r = 0; r < (one ? 1 : rows); ++r) *sum += squares_of(x + r * stride, one ? rows * cols : cols);
    }
}

void CpuBackend::row_sum_squares(Index rows, Index n, const float* a, const float* b, const float* c, double* out) {
    for (Index r = 0; r < rows; ++r) {
        out[r] = squares_of(a + r * n, n);
        for (const float* other : {b, c})
            if (other) out[r] += squares_of(other + r * n, n);
    }
}

void CpuBackend::cap_rows(Index rows, Index n, const double* squares, const float* limit, float* a, float* b,
                          float* c) {
    for (Index r = 0; r < rows; ++r) {
        const double norm = std::sqrt(squares[r]);
        if (norm <= *limit) continue;
        const float factor = static_cast<float>(*limit / norm);
        for (float* const x : {a, b, c}) {
            if (!x) continue;
#pragma omp simd
            for (Index j = r * n; j < (r + 1) * n; ++j) x[j] *= factor;
        }
    }
}

void CpuBackend::repeat_row(Index rows, Index n, const float* row, float* out, const std::uint32_t* place) {
    if (place) {
#pragma omp parallel for num_threads(threads_) if (threads_ > 1 && rows * n >= 65536)
        for (Index at = 0; at < rows * n; ++at) out[at] = row[place[at % n]];
        return;
    }
    for (Index r = 0; r < rows; ++r) std::copy_n(row, n, out + r * n);
}

}  // namespace spikefloss
