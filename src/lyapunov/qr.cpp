#include "lyapunov/qr.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// One round leaves |Q'Q - I| of about 2^-53 kappa^2 + 2^-24. The ratio of R's diagonal is a lower bound of kappa; from
// this ratio on a second round is made.
constexpr double second_round_ratio = 1e3;

// The second round corrects what rounding did to the first, whose rows have norm 1 but for that. A vector of which it
// leaves less than this is a combination of those before it: all that the first round saw of it was rounding.
constexpr double lost_rank = 1e-3;

}  // namespace

TangentQr::TangentQr(Backend& backend, const ProcessGrid& grid, Index b, Index k, Index n)
    : backend_(backend),
      grid_(grid),
      b_(b),
      k_(k),
      n_(n),
      gram_(backend, b * k * k),
      log_r_(backend, b * k),
      info_(backend, b) {}

void TangentQr::gram(Tangents x, Tangents y) {
    backend_.gram(b_, k_, n_, x.membrane, y.membrane, gram_.data(), false);
    if (x.current) backend_.gram(b_, k_, n_, x.current, y.current, gram_.data(), true);
    grid_.neurons().all_reduce_sum(gram_.data(), Scalar::float64, b_ * k_ * k_);
}

void TangentQr::fail(Index step, Index sequence, Index column) const {
    const std::string reason =  // LAPACK's info: below 0 for what it cannot compute with
        column > 0 ? fmt::format("vector {} of {} is a combination of those before it, or not finite", column, k_)
                   : "they are not finite";
    throw Error(Exit::numerics,
                fmt::format("the QR of the tangent vectors failed at step {}, sequence {}: {}", step, sequence, reason),
                "use fewer exponents or a shorter qr_interval; surrogates that are 0 far from threshold (triangle) and the "
                "reset factor take directions away");
}

void TangentQr::factorise(Index step, Index first_sequence, Tangents a, double* r, double* log_r) {
    const auto matrix_bytes = static_cast<std::size_t>(b_ * k_ * k_) * sizeof(double);
    const auto first_failure = [&] {
        const std::vector<std::int32_t> info = info_.to_host();
        return std::find_if(info.begin(), info.end(), [](std::int32_t i) { return i != 0; }) - info.begin();
    };
    bool again = false;
    std::vector<double> first_logs;
    for (int round = 0; round < 2; ++round) {
        gram(a, a);
        backend_.cholesky(b_, k_, gram_.data(), info_.data());
        if (const Index s = first_failure(); s < b_) {
            const auto column = info_.to_host()[static_cast<std::size_t>(s)];
            if (grid_.shape().neuron_shards > 1 || round > 0) fail(step, first_sequence + s, column);
            backend_.householder(b_, k_, n_, a, r, info_.data());
            if (const Index h = first_failure(); h < b_)
                fail(step, first_sequence + h, info_.to_host()[static_cast<std::size_t>(h)]);
            break;
        }
        backend_.divide_by_r(b_, k_, n_, gram_.data(), a.membrane);
        if (a.current) backend_.divide_by_r(b_, k_, n_, gram_.data(), a.current);
        if (round == 0)
            backend_.copy(r, gram_.data(), matrix_bytes);
        else
            backend_.multiply_r(b_, k_, gram_.data(), r);
        // Every shard of a sequence holds the same R, so all decide alike.
        backend_.log_diagonal(b_, k_, r, log_r_.data());
        const std::vector<double> logs = log_r_.to_host();
        for (std::size_t i = 0; i < first_logs.size(); ++i)
            if (logs[i] - first_logs[i] < std::log(lost_rank))
                fail(step, first_sequence + static_cast<Index>(i) / k_, static_cast<Index>(i) % k_ + 1);
        first_logs = logs;
        again = false;
        for (Index s = 0; s < b_; ++s) {
            const auto [low, high] = std::minmax_element(logs.begin() + s * k_, logs.begin() + (s + 1) * k_);
            again = again || *high - *low > std::log(second_round_ratio);
        }
        if (!again) break;
    }
    backend_.log_diagonal(b_, k_, r, log_r_.data());
    const std::vector<double> logs = log_r_.to_host();
    std::copy(logs.begin(), logs.end(), log_r);
    for (Index i = 0; i < b_ * k_; ++i)
        if (!std::isfinite(log_r[i])) fail(step, first_sequence + i / k_, i % k_ + 1);
}

void TangentQr::backward(Tangents q, const double* r, const double* weight, Tangents qb) {
    gram(qb, q);
    backend_.qr_backward_small(b_, k_, r, weight, gram_.data(), gram_.data());
    backend_.qr_backward_apply(b_, k_, n_, q.membrane, gram_.data(), r, qb.membrane);
    if (q.current) backend_.qr_backward_apply(b_, k_, n_, q.current, gram_.data(), r, qb.current);
}

}  // namespace spikefloss
