#include "network/initialise.hpp"

#include "core/error.hpp"
#include "core/random.hpp"
#include "core/state_size.hpp"

#include <lapacke.h>

#include <cmath>

namespace spikefloss {
namespace {

double draw(std::uint64_t seed, Parameter p, Index row, Index col) {
    return normal(seed, Stream::weights, static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(row),
                  static_cast<std::uint32_t>(col));
}

// A random orthogonal matrix [N, N] (Haar measure): Q of the QR of a Gaussian matrix, columns signed by R's diagonal.
std::vector<double> random_orthogonal(std::uint64_t seed, Index N) {
    std::vector<double> a(static_cast<std::size_t>(N * N)), tau(static_cast<std::size_t>(N)), sign(tau.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j) a[static_cast<std::size_t>(j * N + i)] = draw(seed, Parameter::w_rec, i, j);
    const int n = static_cast<int>(N);
    int info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, n, n, a.data(), n, tau.data());
    for (Index j = 0; j < N; ++j)
        sign[static_cast<std::size_t>(j)] = a[static_cast<std::size_t>(j * N + j)] < 0 ? -1 : 1;
    if (info == 0) info = LAPACKE_dorgqr(LAPACK_COL_MAJOR, n, n, n, a.data(), n, tau.data());
    require(info == 0, Exit::internal,
            fmt::format("the QR of a random {0} x {0} matrix failed (LAPACK info {1})", N, info));
    std::vector<double> q(a.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j)
            q[static_cast<std::size_t>(i * N + j)] =
                a[static_cast<std::size_t>(j * N + i)] * sign[static_cast<std::size_t>(j)];
    return q;
}

double decay(double tau, double spread, std::uint64_t seed, Parameter p, Index neuron) {
    if (tau <= 0.0) return 0.0;
    const auto words =
        random_words(seed, Stream::weights, static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(neuron), 0, 1);
    return std::exp(-1.0 / (tau * (1.0 + spread * (2.0 * uniform(words[0]) - 1.0))));
}

}  // namespace

bool InitialNetwork::has_current() const { return lasts_a_step(tau_syn * (1.0 + tau_syn_spread)); }

HostNetwork planned_network(const InitialNetwork& settings, Index shards, Index shard) {
    return {settings.model, ParameterLayout(settings.shape, shards, shard), {}, settings.has_current()};
}

HostNetwork initial_network(const InitialNetwork& settings, std::uint64_t seed, Index shards, Index shard) {
    HostNetwork network{settings.model, ParameterLayout(settings.shape, shards, shard), {}};
    network.values.assign(static_cast<std::size_t>(network.layout.size()), 0.0f);
    const Index N = settings.shape.neurons, M = settings.shape.inputs;
    const double root_n = std::sqrt(static_cast<double>(N));
    const auto on_grid = [&](double w) {
        return settings.weight_step > 0.0 ? std::round(w / settings.weight_step) * settings.weight_step : w;
    };

    // Rows of W_rec that this rank owns, whole.
    const BlockRange mine = network.layout.neurons();
    std::vector<double> rows(static_cast<std::size_t>(mine.size() * N));
    const std::vector<double> orthogonal =
        settings.init == WeightInit::orthogonal ? random_orthogonal(seed, N) : std::vector<double>();
    for (Index i = mine.begin; i < mine.end; ++i) {
        double* row = rows.data() + (i - mine.begin) * N;
        double mean = 0.0;
        for (Index j = 0; j < N; ++j) {
            row[j] = settings.gain * (orthogonal.empty() ? draw(seed, Parameter::w_rec, i, j) / root_n
                                                         : orthogonal[static_cast<std::size_t>(i * N + j)]);
            mean += row[j] / static_cast<double>(N);
        }
        if (settings.zero_row_sums)
            for (Index j = 0; j < N; ++j) row[j] -= mean;
    }

    for (const Segment& s : network.layout.segments()) {
        float* values = network.values.data() + s.offset;
        for (Index r = 0; r < s.rows; ++r)
            for (Index c = 0; c < s.cols; ++c) {
                const Index row = s.row + r, col = s.col + c;
                double value = 0.0;
                switch (s.parameter) {
                    case Parameter::w_in:
                        value = on_grid(settings.input_gain / std::sqrt(static_cast<double>(M)) *
                                        draw(seed, s.parameter, row, col));
                        break;
                    case Parameter::w_rec:
                        value = on_grid(rows[static_cast<std::size_t>((row - mine.begin) * N + col)]);
                        break;
                    case Parameter::w_out:
                        value = on_grid(settings.readout_gain / root_n * draw(seed, s.parameter, row, col));
                        break;
                    case Parameter::bias:
                        value = on_grid(settings.bias_mean + settings.bias_std * draw(seed, s.parameter, row, col));
                        break;
                    case Parameter::alpha:
                        value = decay(settings.tau_syn, settings.tau_syn_spread, seed, s.parameter, col);
                        break;
                    case Parameter::beta:
                        value = decay(settings.tau_mem, settings.tau_mem_spread, seed, s.parameter, col);
                        break;
                    case Parameter::kappa: value = decay(settings.tau_out, 0.0, seed, s.parameter, col); break;
                    default: break;  // bias_out and the initial state start at 0
                }
                values[r * s.cols + c] = static_cast<float>(value);
            }
    }
    return network;
}

}  // namespace spikefloss
