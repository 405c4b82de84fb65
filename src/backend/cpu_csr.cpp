// Products of the CPU backend with sparse weights.
#include "backend/cpu_backend.hpp"

#include <cmath>

namespace spikefloss {
namespace {

double element(const Activity& x, Index row, Index j) {
    const Index at = x.before(row);
    return x.bits ? static_cast<double>((x.bits[at + (j >> 5)] >> (j & 31)) & 1u)
                  : static_cast<double>(x.values[at + j]);
}

// out[r, t] (+)= sum over the entries of target t of value(e) x(r, source(e)), in T.
template <class T, class Source, class Value>
void chains(int threads, const Index* begin, const Index* end, const Activity& x, SumMatrix out, bool accumulate,
            Source&& source, Value&& value) {
    const auto sum = [&]<class Out>(Out* data) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (Index t = 0; t < out.cols; ++t)
            for (Index r = 0; r < out.rows; ++r) {
                Out& to = data[r * out.stride + t];
                const bool chain = accumulate && std::is_same_v<T, Out>;
                T total = chain ? static_cast<T>(to) : T(0);
                for (Index e = begin[t]; e < end[t]; ++e)
                    total = std::fma(static_cast<T>(value(e)), static_cast<T>(element(x, r, source(e))), total);
                to = static_cast<Out>(accumulate && !chain ? static_cast<T>(to) + total : total);
            }
    };
    if (out.type == Scalar::float32)
        sum(static_cast<float*>(out.data));
    else
        sum(static_cast<double*>(out.data));
}

}  // namespace

void CpuBackend::project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const auto source = [&](Index e) { return p.column[e] - p.first_column; };
    const auto value = [&](Index e) { return w.values[e]; };
    if (sums_ == Sums::float32)
        return chains<float>(threads_, p.row_begin, p.row_end, x, out, accumulate, source, value);
    chains<double>(threads_, p.row_begin, p.row_end, x, out, accumulate, source, value);
}

void CpuBackend::project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const Activity x{.values = y.data, .stride = y.stride};
    const auto source = [&](Index e) { return p.row[e]; };
    const auto value = [&](Index e) { return w.by_column ? w.by_column[e] : w.values[p.place[e]]; };
    if (sums_ == Sums::float32)
        return chains<float>(threads_, p.column_begin, p.column_end, x, out, accumulate, source, value);
    chains<double>(threads_, p.column_begin, p.column_end, x, out, accumulate, source, value);
}

void CpuBackend::add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                                  const SparsePattern& p) {
    if (counting()) return;
    const auto add = [&]<class T, class Out>(T, Out* data) {
#pragma omp parallel for num_threads(threads_) if (threads_ > 1)
        for (Index i = 0; i < p.rows; ++i)
            for (Index e = p.row_begin[i]; e < p.row_end[i]; ++e) {
                T total = static_cast<T>(data[e]);
                for (Index r = 0; r < y.rows; ++r)
                    total = std::fma(static_cast<T>(y.data[r * y.stride + i]),
                                     static_cast<T>(element(x, r, p.column[e] - p.first_column)), total);
                data[e] = static_cast<Out>(total);
            }
    };
    if (gradient.type == Scalar::float64) return add(0.0, static_cast<double*>(gradient.data));
    if (sums_ == Sums::float64) return add(0.0, static_cast<float*>(gradient.data));
    add(0.0f, static_cast<float*>(gradient.data));
}

}  // namespace spikefloss
