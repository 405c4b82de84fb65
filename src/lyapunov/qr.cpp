#include "lyapunov/qr.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikefloss {
TangentQr::TangentQr(Backend& backend, const ProcessGrid& grid, const BasisShape& shape, DelayLines* lines)
    : backend_(backend),
      grid_(grid),
      shape_(shape),
      lines_(lines && lines->depth() > 0 ? lines : nullptr),
      b_(shape.b),
      k_(shape.k),
      gram_(backend, b_ * k_ * k_),
      first_r_(backend, b_ * k_ * k_),
      log_r_(backend, b_ * k_),
      info_(backend, 2 * b_),
      square_(backend, 1) {}

void TangentQr::gram(const float* x, const float* y, const std::function<void(DelayLines::Matrices&)>& more) {
    backend_.gram(shape_, x, y, gram_.data());
    if (lines_) {
        DelayLines::Matrices g = gram_.to_host();
        more(g);
        gram_.copy_in(g.data());
    }
    grid_.neurons().all_reduce_sum(gram_.data(), Scalar::float64, b_ * k_ * k_);
}

void TangentQr::fail(Index step, Index sequence, Index column) const {
    const std::string reason =  // LAPACK's info: below 0 for an input that it rejects
        column > 0 ? fmt::format("vector {} of {} is a combination of earlier ones, or not finite", column, k_)
                   : "they are not finite";
    throw Error(
        Exit::numerics,
        fmt::format("the QR of the tangent vectors failed at step {}, sequence {}: {}", step, sequence, reason),
        "its exponent is -infinite, and flossing cannot change this: use fewer exponents or a shorter qr_interval; "
        "surrogates that are 0 far from threshold (triangle) and the reset factor remove directions");
}

void TangentQr::fill_up_gram(const std::vector<Index>& independent) {
    if (std::all_of(independent.begin(), independent.end(), [&](Index m) { return m == k_; })) return;
    std::vector<double> g = gram_.to_host();
    for (Index s = 0; s < b_; ++s)
        for (Index i = 0; i < k_; ++i)
            for (Index j = 0; j < k_; ++j)
                if (std::max(i, j) >= independent[static_cast<std::size_t>(s)])
                    g[static_cast<std::size_t>((s * k_ + i) * k_ + j)] = i == j ? 1.0 : 0.0;
    gram_.copy_in(g.data());
}

// Whether a vector (from 0) of a sequence is finite, over all neurons.
bool TangentQr::finite(const float* a, Index sequence, Index vector) {
    square_.zero();
    const Index D = shape_.D();
    const Squares all{a + (sequence * k_ + vector) * D, 1, D, D, square_.data()};
    backend_.sum_squares({&all, 1});
    grid_.neurons().all_reduce_sum(square_.data(), Scalar::float64, 1);
    return std::isfinite(square_.to_host()[0]);
}

// Sets the vectors of a sequence from `first` (from 0) on to 0.
void TangentQr::drop(float* a, Index sequence, Index first) {
    const auto bytes = static_cast<std::size_t>((k_ - first) * shape_.D()) * sizeof(float);
    if (bytes) backend_.zero(a + (sequence * k_ + first) * shape_.D(), bytes);
}

void TangentQr::factorise(Index step, float* a, double* r, double* log_r, const QrFindings& findings) {
    if (!lines_ && grid_.shape().neuron_shards == 1)
        return backend_.factorise_basis(shape_, step, a, gram_.data(), r, log_r, findings);
    gram(step, a);
    backend_.cholesky(b_, k_, {step, 0, true}, gram_.data(), r, log_r, findings);
    if (lines_) lines_->divide(gram_.to_host());
    backend_.divide_by_r(b_, k_, shape_.D(), gram_.data(), a);
}

void TangentQr::factorise_carefully(Index step, Index first_sequence, float* a, double* r, double* log_r,
                                    const QrFindings& findings, std::vector<Index>* independent, double least) {
    const auto matrix_bytes = static_cast<std::size_t>(b_ * k_ * k_) * sizeof(double);
    // The number of vectors of a sequence that count.
    const auto counted = [&](Index s) { return independent ? (*independent)[static_cast<std::size_t>(s)] : k_; };
    // Called if column `column` (from 1) of a sequence cannot be factorised.
    const auto lose = [&](Index s, Index column) {
        if (!independent || column < 1 || !finite(a, s, column - 1)) fail(step, first_sequence + s, column);
        (*independent)[static_cast<std::size_t>(s)] = column - 1;
        drop(a, s, column - 1);
        if (lines_) lines_->drop(s, column - 1);
    };
    // Whether a factorisation failed at a vector that counted. `columns` [b], `stride` apart: the column, or 0.
    const auto any_lost = [&](const std::vector<std::int32_t>& columns, std::size_t stride) {
        bool any = false;
        for (Index s = 0; s < b_; ++s) {
            const std::int32_t column = columns[static_cast<std::size_t>(s) * stride + stride - 1];
            if (column == 0 || column > counted(s)) continue;
            lose(s, column);
            any = true;
        }
        return any;
    };
    // Loses the first vector of each sequence of which less than `least` is left.
    const auto any_faint = [&] {
        if (!(least > 0.0)) return false;
        std::vector<double> factor(static_cast<std::size_t>(b_ * k_ * k_));
        if (b_ > 0) backend_.copy_out(factor.data(), r, matrix_bytes);
        bool any = false;
        for (Index s = 0; s < b_; ++s)
            for (Index j = 0; j < counted(s); ++j) {
                const double* column = factor.data() + s * k_ * k_ + j;
                double square = 0.0;
                for (Index i = 0; i <= j; ++i) square += column[i * k_] * column[i * k_];
                if (column[j * k_] >= least * std::sqrt(square)) continue;
                lose(s, j + 1);  // counted(s) becomes j
                any = true;
            }
        return any;
    };
    std::vector<double> logs;
    for (int round = 0; round < 2;) {
        gram(step, a);
        if (independent) fill_up_gram(*independent);
        if (round == 1) backend_.copy(r, first_r_.data(), matrix_bytes);
        info_.zero();
        backend_.cholesky(b_, k_, {step, round, false}, gram_.data(), r, log_r_.data(),
                          {info_.data(), findings.strain});
        // Every shard of a sequence finds the same, so all decide the same.
        const std::vector<std::int32_t> info = info_.to_host();
        if (std::any_of(info.begin(), info.end(), [](std::int32_t i) { return i != 0; })) {
            if (grid_.shape().neuron_shards > 1 || round > 0 || lines_) {
                if (!any_lost(info, 2)) fail(step, first_sequence, 0);
                continue;
            }
            backend_.householder(b_, k_, shape_.D(), a, r, log_r_.data(), info_.data());
            any_lost(info_.to_host(), 1);
            any_faint();
            for (Index s = 0; s < b_; ++s) drop(a, s, counted(s));
            logs = log_r_.to_host();
            break;
        }
        if (round == 0 && any_faint()) continue;
        backend_.divide_by_r(b_, k_, shape_.D(), gram_.data(), a);
        if (lines_) lines_->divide(gram_.to_host());
        logs = log_r_.to_host();
        bool again = false;
        for (Index s = 0; s < b_; ++s) {
            if (counted(s) == 0) continue;
            const auto [low, high] = std::minmax_element(logs.begin() + s * k_, logs.begin() + s * k_ + counted(s));
            again = again || *high - *low > std::log(qr_second_round_ratio);
        }
        if (!again) break;
        if (round == 0) backend_.copy(first_r_.data(), r, matrix_bytes);
        ++round;
    }
    for (Index i = 0; i < b_ * k_; ++i) {
        const Index s = i / k_, j = i % k_;
        const double log = logs[static_cast<std::size_t>(i)];
        if (j < counted(s) && !std::isfinite(log)) {
            if (std::isnan(log)) fail(step, first_sequence + s, j + 1);
            lose(s, j + 1);
        }
        log_r[i] = j < counted(s) ? log : -std::numeric_limits<double>::infinity();
    }
}

void TangentQr::backward(Index step, const float* q, const double* r, const double* weight, float* qb) {
    if (!lines_ && grid_.shape().neuron_shards == 1)
        return backend_.factorise_basis_backward(shape_, q, r, weight, gram_.data(), qb);
    gram(qb, q, [&](DelayLines::Matrices& qbq) { lines_->add_adjoint_gram(step, qbq); });
    backend_.qr_backward(b_, k_, shape_.D(), q, r, weight, gram_.data(), qb);
    if (!lines_) return;
    DelayLines::Matrices factor(static_cast<std::size_t>(gram_.size()));
    backend_.copy_out(factor.data(), r, gram_.bytes());
    lines_->take_back(step, gram_.to_host(), factor);
}

}  // namespace spikefloss
