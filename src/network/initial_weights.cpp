// A spike over weight 1 moves the membrane by eps[n] after n steps:
//
//   sum eps = 1/(1-alpha)        sum eps^2 = (1-beta)(1+alpha beta) / ((1+beta)(1-alpha^2)(1-alpha beta))
//
// and afferents c with n_c synapses of a target, rates nu_c per step and weights of mean W_c and mean square W2_c give
//
//   mean = sum eps sum_c n_c nu_c W_c       variance = sum eps^2 sum_c n_c nu_c (1-nu_c) W2_c
//
// fluctuation (Rossbroich, Gygax & Zenke 2022) solves these for the weights. share_c: of the variance.
//
//   any sign     mean W = mu / (sum eps sum_c n_c nu_c)
//                var W_c = share_c ((theta-mu)/xi)^2 / (n_c nu_c (1-nu_c) sum eps^2) - (mean W)^2
//   with signs   |W| is exponential with mean J_c, so W2 = 2 J^2; excitatory J_c as sqrt(share_c / (n_c nu_c
//   (1-nu_c))),
//                J_I = sum_E n_c nu_c J_c / sum_I n_c nu_c; all are scaled to the variance
//
// balanced (van Vreeswijk & Sompolinsky 1996): +- gain/sqrt(K).
#include "network/initial_weights.hpp"

#include "core/error.hpp"

#include <cmath>

namespace spikefloss {
namespace {

struct Afferent {
    std::size_t projection;
    bool inhibitory, recurrent;
    double spikes;    // n nu: per step
    double variance;  // n nu (1 - nu)
    double share = 0.0;
};

// 0.9 for what is not recurrent, 0.1 for what is, each split equally; all of it where there is only one kind.
void set_shares(std::vector<Afferent>& afferents, const std::vector<InitialProjection>& projections) {
    double kinds[2] = {0.0, 0.0};
    for (const Afferent& a : afferents)
        if (!a.inhibitory) ++kinds[a.recurrent ? 1 : 0];
    for (Afferent& a : afferents) {
        if (a.inhibitory) continue;
        const double given = projections[a.projection].share, both = kinds[0] > 0.0 && kinds[1] > 0.0 ? 1.0 : 0.0;
        const double of_kind = both == 0.0 ? 1.0 : a.recurrent ? 0.1 : 0.9;
        a.share = given > 0.0 ? given : of_kind / kinds[a.recurrent ? 1 : 0];
    }
}

}  // namespace

WeightScale balanced_weights(const InitialNetwork& network, const std::vector<double>& degrees, std::size_t at) {
    const InitialProjection& own = network.projections[at];
    double K = 0.0;
    for (std::size_t p = 0; p < degrees.size(); ++p) {
        const InitialProjection& other = network.projections[p];
        if (other.target == own.target && other.source != from_input && other.sign == Sign::excitatory &&
            other.init == WeightInit::balanced)
            K += degrees[p];
    }
    const double size = own.gain / std::sqrt(K > 0.0 ? K : degrees[at]);
    return {own.sign == Sign::inhibitory ? -size : size, 0.0};
}

WeightScale fluctuation_weights(const InitialNetwork& network, const std::vector<double>& degrees, std::size_t at) {
    const InitialProjection& own = network.projections[at];
    const InitialPopulation& target = network.populations[static_cast<std::size_t>(own.target)];
    const auto decay = [](double tau) { return tau > 0.0 ? std::exp(-1.0 / tau) : 0.0; };
    const double alpha = decay(target.tau_syn), beta = decay(target.tau_mem), theta = target.threshold,
                 mu = target.fluctuation_mean, xi = target.fluctuation_xi;
    const double sum = 1.0 / (1.0 - alpha), squares = (1.0 - beta) * (1.0 + alpha * beta) /
                                                      ((1.0 + beta) * (1.0 - alpha * alpha) * (1.0 - alpha * beta));
    std::vector<Afferent> afferents;
    std::size_t mine = 0;
    for (std::size_t p = 0; p < degrees.size(); ++p) {
        const InitialProjection& q = network.projections[p];
        if (q.target != own.target || q.init != WeightInit::fluctuation) continue;
        if (p == at) mine = afferents.size();
        afferents.push_back({p, q.sign == Sign::inhibitory, q.source == q.target, degrees[p] * q.rate,
                             degrees[p] * q.rate * (1.0 - q.rate)});
    }
    set_shares(afferents, network.projections);

    if (own.sign == Sign::any) {
        double all = 0.0;
        for (const Afferent& a : afferents) all += a.spikes;
        const double mean = mu / (all * sum), deviation = (theta - mu) / xi;
        const double variance =
            afferents[mine].share * deviation * deviation / (afferents[mine].variance * squares) - mean * mean;
        require(variance >= 0.0, Exit::usage,
                fmt::format("no weights of projection {} give the membrane of {} a mean of {} and a deviation of {:g}: "
                            "with {:g} synapses the mean alone gives more",
                            own.name, target.name, mu, deviation, degrees[at]),
                "choose a smaller fluctuation_mean or fluctuation_xi, or more synapses");
        return {mean, std::sqrt(variance)};
    }
    std::vector<double> J(afferents.size());
    double excitation = 0.0, inhibition = 0.0, variance = 0.0;
    for (std::size_t c = 0; c < afferents.size(); ++c) {
        const Afferent& a = afferents[c];
        if (a.inhibitory) {
            inhibition += a.spikes;
        } else {
            J[c] = std::sqrt(a.share / a.variance);
            excitation += a.spikes * J[c];
        }
    }
    for (std::size_t c = 0; c < afferents.size(); ++c) {
        if (afferents[c].inhibitory) J[c] = excitation / inhibition;
        variance += afferents[c].variance * 2.0 * J[c] * J[c];
    }
    const double size = J[mine] * theta / xi / std::sqrt(squares * variance);
    return {own.sign == Sign::inhibitory ? -size : size, 0.0};
}

}  // namespace spikefloss
