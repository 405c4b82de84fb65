#include "lyapunov/tangent_pass.hpp"

#include "core/random.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

TangentPasses passes_for(Backend& backend, const ProcessGrid& grid, const Network& network, bool allowed,
                         const TangentPlan& plan) {
    const char* const why = !allowed                         ? "whole passes are switched off"
                            : grid.shape().neuron_shards > 1 ? "several ranks hold the neurons"
                            : network.only_loops()           ? network.only_loops()
                                                             : network.adapted();
    if (!why) return backend.tangent_passes(plan, backend.pass_memory());
    TangentPasses none;
    none.forward.why = none.backward.why = why;
    return none;
}

}  // namespace

const TangentOptions& TangentPass::checked(const TangentOptions& options, Index state_size, Index T) {
    require(options.exponents >= 1 && options.exponents <= state_size, Exit::usage,
            fmt::format("{} exponents were asked for, but the state has {} dimensions", options.exponents, state_size),
            fmt::format("choose between 1 and {}", state_size));
    const Index m = options.qr_interval;
    require(m >= 0, Exit::usage, fmt::format("the QR interval is {}", m), "use a number of steps, or 0 for auto");
    const Index first_counted = m > 0 ? (options.warmup + m - 1) / m * m + m : options.warmup + 1;  // its step
    require(first_counted <= T, Exit::usage,
            fmt::format("no QR counts: {} steps have no QR after a warm-up of {}{}", T, options.warmup,
                        m > 0 ? fmt::format(" with one every {} steps", m) : ""),
            "use a shorter warm-up or QR interval, or longer sequences");
    return options;
}

TangentPass::TangentPass(Backend& backend, const ProcessGrid& grid, const Network& network, TangentOptions options,
                         Index T, Index b, bool keep)
    : backend_(backend),
      grid_(grid),
      options_(checked(options, network.state_size(), T)),
      shape_{b, options.exponents, network.n(), network.has_current(), network.has_adaptation()},
      last_(QrSchedule(T, options.warmup, options.qr_interval).last()),
      keep_(keep),
      loop_(backend, grid, network.layout, network.terms().recurrent, shape_, keep),
      passes_(passes_for(backend, grid, network, options.whole_passes, {last_, shape_})),
      q_(backend, (keep ? last_ + 1 : 1) * shape_.size()),
      start_(backend, keep ? 0 : shape_.size()),
      r_(backend, (keep ? last_ / std::max<Index>(1, options.qr_interval) : 1) * shape_.rows() * shape_.k),
      segment_log_r_(backend, last_ / std::max<Index>(1, options.qr_interval) * shape_.rows()),
      failure_(backend, 2 * b),
      strain_(backend, b),
      read_log_r_(backend, segment_log_r_.size()),
      read_failure_(backend, failure_.size()),
      read_strain_(backend, b),
      adjoint_(backend, keep ? shape_.size() : 0),
      weight_(backend, keep ? shape_.rows() : 0) {}

void TangentPass::forward(const Network& network, StatePass& state, const std::vector<float>& q0,
                          Index first_sequence) {
    SPIKEFLOSS_ASSERT(static_cast<Index>(q0.size()) == shape_.size());
    if (!q0.empty()) backend_.copy_in(q_.data(), q0.data(), q0.size() * sizeof(float));
    independent_.assign(static_cast<std::size_t>(shape_.b), shape_.k);
    least_ = 0.0;
    // Where only some of the vectors are measured, a reset takes none of them away.
    if (resets_lose(network) && shape_.k > network.state_size() - network.layout.shape().neurons)
        grid_.agree([&] { remove_lost(network, state, first_sequence); });
    segments_.clear(), counted_.clear(), log_r_.clear(), fault_.reset();
    loop_.begin_forward(state.tape().spikes);
    QrSchedule schedule(last_, options_.warmup, options_.qr_interval);
    Index qrs = 0;
    std::vector<double> logs;  // of a segment
    while (!schedule.done()) {
        backend_.may_stop();
        const QrSegment segment = schedule.next();
        if (!keep_) backend_.copy(start_.data(), q_.data(), start_.bytes());
        loop_.mark(segment.steps);
        const TangentForwardCall call{.model = network.model.neuron,
                                      .reset = options_.reset,
                                      .neurons = network.neurons(),
                                      .w_rec = network[Parameter::w_rec],
                                      .first = segment.first,
                                      .steps = segment.steps,
                                      .qr_interval = segment.interval,
                                      .u = state.membrane(segment.first),
                                      .w = state.adaptation(segment.first),
                                      .q = basis(segment.first),
                                      .q_stride = keep_ ? shape_.size() : 0,
                                      .r = r_.data() + (keep_ ? qrs * shape_.rows() * shape_.k : 0),
                                      .r_stride = keep_ ? shape_.rows() * shape_.k : 0,
                                      .log_r = segment_log_r_.data(),
                                      .findings = {failure_.data(), strain_.data()}};
        Report report = take(call, first_sequence, logs);
        if (schedule.chosen()) report = agree(report);
        if (report.broken) break;
        if (report.lost) schedule.stay_at_one();
        if (!schedule.accept(report.strain, report.failed)) {
            if (!keep_) backend_.copy(q_.data(), start_.data(), start_.bytes());
            loop_.rewind();
            continue;
        }
        segments_.push_back(segment);
        for (Index qr = 0; qr < segment.qrs(); ++qr) {
            const Index end = segment.first + (qr + 1) * segment.interval;
            if (end - segment.interval < options_.warmup) continue;
            counted_.push_back(end);
            const auto row = logs.begin() + qr * shape_.rows();
            log_r_.insert(log_r_.end(), row, row + shape_.rows());
        }
        qrs += segment.qrs();
    }
    grid_.agree([&] {
        if (fault_) throw Error(*fault_);
    });
}

// Whether the Jacobian of a step with spikes is singular.
bool TangentPass::resets_lose(const Network& network) const {
    const NeuronModel& model = network.model.neuron;
    return model.reset == Reset::zero && options_.reset == JacobianReset::detached &&
           (model.reset_delay == 1 || shape_.current);
}

// Of the rows of the Jacobian of a step, a reset to 0 makes some dependent, those of the neurons that spike:
//   reset_delay 1   P_u = 0; in the next step P_u = (1-beta) P_i, since Q_u = 0
//   reset_delay 0   P_u = (1-beta) P_i, if the state has currents
// So at most D minus their largest number are independent. More are lost if W_rec has zeros, as between layers. In
// floats only rounding is left of these: of a vector about 2^-24, times its amplification by the other vectors.
void TangentPass::remove_lost(const Network& network, const StatePass& state, Index first_sequence) {
    const bool late = network.model.neuron.reset_delay == 1;
    const std::vector<Index> most = state.tape().spikes.most(last_, late && shape_.current);
    bool singular = !late;
    for (Index s = 0; s < shape_.b; ++s) {
        const Index finite = network.state_size() - most[static_cast<std::size_t>(s)];
        if (finite >= shape_.k) continue;
        singular = true;
        if (keep_)
            throw Error(
                Exit::numerics,
                fmt::format("at most {} of the {} exponents of sequence {} are finite: spikes reset membranes to "
                            "0 and so take directions of the state away",
                            finite, shape_.k, first_sequence + s),
                fmt::format("the rest is -infinite, and flossing cannot change this: use {} exponents or fewer, "
                            "another network.reset, or jacobian_reset = \"ignored\"",
                            finite));
        independent_[static_cast<std::size_t>(s)] = finite;
        backend_.zero(q_.data() + (s * shape_.k + finite) * shape_.D(),
                      static_cast<std::size_t>((shape_.k - finite) * shape_.D()) * sizeof(float));
    }
    if (singular && options_.qr_interval <= 1) least_ = 0x1p-14;
}

// Takes the steps of a segment, carefully if one round per QR does not suffice. logs becomes ln R_jj [QRs, b, k].
TangentPass::Report TangentPass::take(const TangentForwardCall& call, Index first_sequence, std::vector<double>& logs) {
    Report report;
    const auto look = [&] {
        for (const double s : read_strain_.get()) report.strain = std::max(report.strain, s);
    };
    const bool whole = passes_.forward.pass != nullptr;
    const auto lost_some = [&] {
        return least_ > 0.0 ||
               std::any_of(independent_.begin(), independent_.end(), [&](Index m) { return m < shape_.k; });
    };
    const bool lost = lost_some();
    strain_.zero();
    const bool final = options_.qr_interval > 0 || call.qr_interval == 1;  // no shorter interval would be tried
    if (!lost && !(careful_ && !whole && final)) {
        failure_.zero();
        if (whole)
            passes_.forward.pass->run(call);
        else
            loop_.forward(call);
        read_strain_.begin(strain_);
        read_failure_.begin(failure_);
        read_log_r_.begin(call.log_r, call.steps / call.qr_interval * shape_.rows());
        look();
        const std::span<const std::int32_t> failure = read_failure_.get();
        report.failed = std::any_of(failure.begin(), failure.end(), [](std::int32_t at) { return at != 0; });
        if (!report.failed) {
            const std::span<const double> of_segment = read_log_r_.get();
            logs.assign(of_segment.begin(), of_segment.end());
            return report;
        }
        if (!final) return report;
        careful_ = true;
        if (!keep_) backend_.copy(q_.data(), start_.data(), start_.bytes());
        loop_.rewind();
    }
    try {
        logs = loop_.forward_carefully(call, first_sequence, keep_ ? nullptr : &independent_,
                                       call.qr_interval == 1 ? least_ : 0.0);
        read_strain_.begin(strain_);
        look();
    } catch (const Error& error) {
        // All shards of a sequence fail together, but ranks with other sequences do not fail.
        if (error.code() != Exit::numerics) throw;
        fault_ = error;
        report.broken = true;
    }
    report.lost = lost_some();
    return report;
}

// The worst report of all ranks, so that all choose the same next interval. Collective.
TangentPass::Report TangentPass::agree(const Report& mine) const {
    constexpr std::size_t size = 4;
    std::vector<double> all(size * static_cast<std::size_t>(grid_.ranks()), 0.0);
    double* at = all.data() + size * static_cast<std::size_t>(grid_.rank());
    at[0] = mine.strain, at[1] = mine.failed, at[2] = mine.lost, at[3] = mine.broken;
    grid_.control().all_reduce_sum(all.data(), Scalar::float64, static_cast<Index>(all.size()));
    Report worst;
    for (at = all.data(); at != all.data() + all.size(); at += size) {
        worst.strain = std::max(worst.strain, at[0]);
        worst.failed = worst.failed || at[1] != 0.0;
        worst.lost = worst.lost || at[2] != 0.0;
        worst.broken = worst.broken || at[3] != 0.0;
    }
    return worst;
}

// The number of steps that counted QRs cover.
Index TangentPass::counted_length() const {
    const Index m = options_.qr_interval;
    return m > 0 ? static_cast<Index>(counted_.size()) * m : last_ - options_.warmup;
}

std::vector<double> TangentPass::exponents() const {
    const auto rows = static_cast<std::size_t>(shape_.rows());
    std::vector<double> lambda(rows, 0.0);
    for (std::size_t at = 0; at < log_r_.size(); ++at) lambda[at % rows] += log_r_[at];
    for (double& value : lambda) value /= static_cast<double>(counted_length());
    return lambda;
}

void TangentPass::backward(const Network& network, StatePass& state, const std::vector<double>& d_exponents,
                           bool time_constants, SumBuffer& gradient, float* extra) {
    std::vector<double> weights(d_exponents);  // dL/d(ln R_jj) of every counted QR
    for (double& w : weights) w /= static_cast<double>(counted_length());
    if (!weights.empty()) weight_.copy_in(weights.data());
    adjoint_.zero();
    const Index n = shape_.n, square = shape_.rows() * shape_.k;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    Index qrs = 0;
    std::vector<const double*> r_after(static_cast<std::size_t>(last_), nullptr);
    for (const QrSegment& segment : segments_)
        for (Index end = segment.first + segment.interval; end <= segment.first + segment.steps;
             end += segment.interval)
            r_after[static_cast<std::size_t>(end - 1)] = r_.data() + qrs++ * square;
    loop_.begin_backward(std::move(r_after));
    for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
        backend_.may_stop();
        qrs -= segment->qrs();
        const Index warm = std::max<Index>(0, options_.warmup - segment->first);
        const TangentBackwardCall call{
            .model = network.model.neuron,
            .reset = options_.reset,
            .neurons = network.neurons(),
            .w_rec = network[Parameter::w_rec],
            .first = segment->first,
            .steps = segment->steps,
            .qr_interval = segment->interval,
            .u = state.membrane(segment->first),
            .w = state.adaptation(segment->first),
            .q = basis(segment->first),
            .q_stride = shape_.size(),
            .r = r_.data() + qrs * square,
            .weight = weight_.data(),
            .first_counted = (warm + segment->interval - 1) / segment->interval,
            .a = adjoint_.data(),
            .d_w_rec = gradient.matrix(n, network.layout.shape().neurons, at(Parameter::w_rec)),
            .constants = time_constants ? network.constant_sums(gradient) : ConstantSums(),
            .e = extra + segment->first * shape_.b * n};
        if (passes_.backward.pass && !time_constants)
            passes_.backward.pass->run(call);
        else
            loop_.backward(call);
    }
}

std::vector<float> random_bases(std::uint64_t seed, Index k, Index neurons_total, Index parts, BlockRange neurons,
                                BlockRange sequences) {
    const Index D = parts * neurons_total, n = neurons.size();
    std::vector<double> full(static_cast<std::size_t>(k * D));
    std::vector<float> bases(static_cast<std::size_t>(sequences.size() * k * parts * n));
    for (Index s = 0; s < sequences.size(); ++s) {
        // Gaussian vectors, orthonormalised twice by modified Gram-Schmidt: every rank does the same in double.
        for (Index j = 0; j < k; ++j) {
            double* v = full.data() + j * D;
            for (Index i = 0; i < D; ++i)
                v[i] = normal(seed, Stream::tangent_bases, static_cast<std::uint32_t>(sequences.begin + s),
                              static_cast<std::uint32_t>(j), static_cast<std::uint32_t>(i));
            for (int pass = 0; pass < 2; ++pass)
                for (Index before = 0; before < j; ++before) {
                    const double* q = full.data() + before * D;
                    double dot = 0.0;
                    for (Index i = 0; i < D; ++i) dot += q[i] * v[i];
                    for (Index i = 0; i < D; ++i) v[i] -= dot * q[i];
                }
            double norm = 0.0;
            for (Index i = 0; i < D; ++i) norm += v[i] * v[i];
            for (Index i = 0; i < D; ++i) v[i] /= std::sqrt(norm);
            for (Index part = 0; part < parts; ++part)
                for (Index i = 0; i < n; ++i)
                    bases[static_cast<std::size_t>(((s * k + j) * parts + part) * n + i)] =
                        static_cast<float>(v[part * neurons_total + neurons.begin + i]);
        }
    }
    return bases;
}

}  // namespace spikefloss
