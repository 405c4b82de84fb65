#include "train/trainer.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace spikefloss {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

// The constants of neurons that neither vary in time nor are weights.
bool trains_time_constants(const Optimiser& optimiser) {
    constexpr Parameter constants[] = {Parameter::alpha, Parameter::beta,           Parameter::threshold,
                                       Parameter::rho,   Parameter::adapt_membrane, Parameter::adapt_spike};
    return std::any_of(std::begin(constants), std::end(constants), [&](Parameter p) { return optimiser.trains(p); });
}

std::vector<float> bases(std::uint64_t seed, Index k, const Network& network, BlockRange sequences) {
    return random_bases(seed, k, network.layout.shape().neurons, network.state_parts(), network.layout.neurons(),
                        sequences);
}

}  // namespace

// `start` is passed by value, so that its host memory is freed when the trainer is made.
Trainer::Trainer(Backend& backend, const ProcessGrid& grid, const Task& task, TrainerOptions options,
                 // NOLINTNEXTLINE(performance-unnecessary-value-param)
                 TrainingState start)
    : backend_(backend),
      grid_(grid),
      task_(task),
      options_(std::move(options)),
      schedule_(options_.floss_schedule),
      progress_(start.progress),
      network_(backend, grid, start.network),
      gradient_(backend, grid, network_.layout),
      optimiser_(backend, network_.layout, options_.optimiser),
      floss_optimiser_(backend, network_.layout, options_.floss_optimiser),
      mine_(grid.sequences_of(options_.batch)),
      pass_(backend, grid, network_, task.steps(), mine_.size(),
            {.time_constants = trains_time_constants(optimiser_),
             .tape = options_.tape,
             .spike_adjoint = options_.rate.active(),
             .whole_passes = options_.whole_passes}),
      loss_(backend, grid, task.steps(), mine_.size(), task.inputs(), task.outputs(), kind()),
      square_(backend, 1),
      read_square_(backend, 1) {
    if (options_.rate.active())
        rate_penalty_.emplace(backend, grid, options_.rate, network_.layout.shape().neurons, task.steps(), mine_.size(),
                              options_.batch);
    if (!start.task.first.empty()) optimiser_.restore(start.task);
    if (!start.floss.first.empty()) floss_optimiser_.restore(start.floss);
    if (schedule_.enabled()) {
        const BlockRange sequences = grid.sequences_of(options_.floss_batch);
        options_.flossing.tangent.whole_passes = options_.whole_passes;
        options_.flossing.time_constants =
            trains_time_constants(floss_optimiser_) ||
            (options_.floss_schedule.joint_weight > 0.0 && trains_time_constants(optimiser_));
        flossing_ = std::make_unique<FlossingPass>(
            backend, grid, network_, options_.flossing, options_.floss_horizon, options_.floss_batch,
            bases(options_.seed, options_.flossing.tangent.exponents, network_, sequences));
        floss_inputs_ = BatchInputs(backend, options_.floss_horizon * sequences.size() * task.inputs());
    }
}

bool Trainer::flossing_due() {
    if (progress_.floss_pending < 0) schedule_.decide(progress_, [this] { return measure_adaptive(); });
    return progress_.floss_pending > 0 || progress_.adaptive_pending > 0;
}

StepReport Trainer::advance() {
    waited_ = 0.0;
    StepReport report = work();
    report.data_seconds = waited_;
    return report;
}

StepReport Trainer::work() {
    const Clock::time_point began = Clock::now();
    const bool flossing = flossing_due();
    const double deciding = seconds_since(began);
    if (!flossing) {
        StepReport report = train_step();
        if (schedule_.enabled()) report.flossing_seconds += deciding;
        progress_.floss_pending = -1;
        return report;
    }
    const bool adaptive = progress_.floss_pending == 0;
    --(adaptive ? progress_.adaptive_pending : progress_.floss_pending);
    StepReport report = floss_step(adaptive ? options_.adaptive_penalty : options_.penalty);
    const bool by_exponent = options_.floss_schedule.adaptive_quantity == AdaptiveQuantity::exponent;
    if (adaptive && schedule_.settled(by_exponent ? flossed_exponent(*report.penalty) : measure_adaptive()))
        progress_.adaptive_pending = 0;
    report.flossing_seconds = seconds_since(began);
    return report;
}

// This rank's part of batch number `step`, for a pass.
Batch Trainer::sample(const StatePass& pass, Purpose purpose, std::int64_t step, Index batch) const {
    const BlockRange sequences = grid_.sequences_of(batch);
    return pass.takes_bits() ? task_.sample_bits(purpose, step, batch, sequences)
                             : task_.sample(purpose, step, batch, sequences);
}

// The same, and the time until it is there.
Batch Trainer::taken(const StatePass& pass, Purpose purpose, std::int64_t step, Index batch) {
    const Clock::time_point began = Clock::now();
    Batch result = sample(pass, purpose, step, batch);
    waited_ += seconds_since(began);
    return result;
}

// Runs the flossing pass on the next flossing batch. No other pass adds to the gradient after it.
PenaltyValue Trainer::add_penalty(const Penalty& penalty, SumBuffer& gradient) {
    const Batch batch = taken(flossing_->state(), Purpose::floss, progress_.floss_steps, options_.floss_batch);
    // The first `horizon` steps of every sequence: time is the slowest index.
    PenaltyValue value = flossing_->run(network_, floss_inputs_.of(batch), penalty, gradient,
                                        {.complete = [this](auto parameters) { gradient_.complete(parameters); }});
    ++progress_.floss_steps;
    if (schedule_.over(flossed_exponent(value))) {
        progress_.flossing_over = true;
        progress_.floss_pending = progress_.adaptive_pending = 0;
    }
    return value;
}

StepReport Trainer::floss_step(const Penalty& penalty) {
    StepReport report;
    report.flossing = true;
    report.penalty = add_penalty(penalty, gradient_.start());
    const SpikeTape& spikes = flossing_->state().tape().spikes;
    gradient_.begin_reduce(floss_optimiser_.trained_parts());
    spikes.begin_rate();
    report.norms = gradient_.end_reduce(floss_optimiser_.trained());
    check_finite(nullptr, report.norms, flossing_->state(), "flossing");
    report.rate = spikes.end_rate();
    floss_optimiser_.update(network_, gradient_, report.norms);
    report.step = progress_.step;
    return report;
}

// Queues the square of |W_out|_F, which adjoint_limit() waits for.
void Trainer::begin_adjoint_limit() {
    if (options_.adjoint_cap <= 0.0) return;
    square_.zero();
    const auto [offset, count] = network_.layout.extent(Parameter::w_out);
    const Squares w_out{network_.values.data() + offset, 1, count, count, square_.data()};
    if (grid_.batch_shard() == 0) backend_.sum_squares({&w_out, 1});
    read_square_.begin(square_);
}

// limit of the adjoint cap: c q, q = 0.5 |W_out|_F / (number of loss terms in the batch)
float Trainer::adjoint_limit(double terms) {
    if (options_.adjoint_cap <= 0.0) return 0.0f;
    double squares = read_square_.get()[0];
    grid_.control().all_reduce_sum(&squares, Scalar::float64, 1);
    const double limit = options_.adjoint_cap * 0.5 * std::sqrt(squares) / terms;
    // Above 0, because 0 means off. So all ranks make the same collectives even if W_out = 0.
    return std::max(static_cast<float>(limit), std::numeric_limits<float>::min());
}

// On a GPU the host waits once, at the end. Before that it only waits for |W_out|, which is known before the forward
// pass begins.
StepReport Trainer::train_step() {
    StepReport report;
    begin_adjoint_limit();
    Batch batch = taken(pass_, Purpose::train, progress_.step, options_.batch);
    loss_.load(batch);
    pass_.forward(network_, loss_.x());
    const double terms = loss_.begin(pass_.tape().readout.data());
    const SpikeTape& spikes = pass_.tape().spikes;
    spikes.begin_rate();
    if (rate_penalty_) report.rate_penalty = rate_penalty_->evaluate(spikes);
    const bool joint = schedule_.joint(progress_);
    BackwardOptions options{.dy = loss_.dy(), .adjoint_limit = adjoint_limit(terms)};
    if (rate_penalty_) options.spike_adjoint = rate_penalty_->spike_adjoint();
    if (!joint) options.complete = [this](auto parameters) { gradient_.complete(parameters); };
    SumBuffer& gradient = gradient_.start();
    pass_.backward(network_, loss_.x(), options, gradient);
    task_.recycle(std::move(batch));  // no pass uses x() again
    if (joint) {
        const Clock::time_point began = Clock::now();
        Penalty joint_penalty = options_.penalty;
        joint_penalty.weight = options_.floss_schedule.joint_weight;
        report.penalty = add_penalty(joint_penalty, gradient);
        report.flossing_seconds = seconds_since(began);
    }
    gradient_.begin_reduce(optimiser_.trained_parts());
    report.outcome = loss_.end();
    report.norms = gradient_.end_reduce(optimiser_.trained());
    report.rate = spikes.end_rate();
    check_finite(&report.outcome, report.norms, pass_, "training");
    optimiser_.update(network_, gradient_, report.norms);
    ++progress_.step;
    // The first value starts the running means; later ones enter with a weight of 0.05.
    const double keep = progress_.step == 1 ? 0.0 : 0.95;
    if (has_accuracy(kind()))
        progress_.running_accuracy = keep * progress_.running_accuracy + (1.0 - keep) * report.outcome.accuracy;
    progress_.running_loss = keep * progress_.running_loss + (1.0 - keep) * report.outcome.loss;
    report.step = progress_.step;
    return report;
}

// `outcome` and `norms` are the same on all ranks, so all throw or none. Only then the ranks find out which of them has
// the fault.
void Trainer::check_finite(const Outcome* outcome, const GradientNorms& norms, const StatePass& state,
                           const char* what) const {
    if ((!outcome || std::isfinite(outcome->loss)) && std::isfinite(norms.global)) return;
    std::vector<double> bad(static_cast<std::size_t>(grid_.ranks()), 0.0);
    bad[static_cast<std::size_t>(grid_.rank())] = !state.finite();
    grid_.control().all_reduce_sum(bad.data(), Scalar::float64, grid_.ranks());
    std::string where;
    for (std::size_t r = 0; r < bad.size(); ++r)
        if (bad[r] != 0.0 && where.empty()) where = fmt::format("; the membranes on rank {} are not finite", r);
    std::string names;
    for (Parameter p : norms.present)
        if (!std::isfinite(norms.parameter[static_cast<std::size_t>(p)]))
            names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(p));
    std::string problem = fmt::format("{} step {}: ", what, outcome ? progress_.step + 1 : progress_.floss_steps);
    const bool bad_loss = outcome && !std::isfinite(outcome->loss);
    if (bad_loss) problem += std::isnan(outcome->loss) ? "the loss is not a number" : "the loss is infinite";
    if (bad_loss && !names.empty()) problem += "; ";
    if (!names.empty()) problem += fmt::format("the gradient of {} is not finite", names);
    // All ranks throw; only the first has the message.
    const bool first = grid_.rank() == 0;
    const std::string remedy = fmt::format(
        "continue from the last checkpoint (--resume) with {}; or start again with a smaller network.gain or a "
        "lower network.sharpness",
        outcome ? "a lower train.learning_rate, or a train.clip or train.adjoint_cap"
                : "a lower flossing.learning_rate, or a flossing.clip");
    Error error(Exit::numerics, first ? problem + where : "", first ? remedy : "");
    error.collective = true;
    throw error;
}

Outcome Trainer::evaluate(Purpose purpose, Answers* answers) {
    const bool labels = takes_labels(task_.loss());
    const Index batch = options_.batch;
    const Index all = purpose == Purpose::validation ? options_.validation_sequences : options_.test_sequences;
    if (answers)
        for (std::vector<std::int64_t>* part : {&answers->label, &answers->named})
            part->assign(static_cast<std::size_t>(labels ? all : 0), 0);
    Outcome sum;
    std::vector<Outcome> parts;
    TargetVariance variance;
    for (Index first = 0; first < all; first += batch) {
        // Sequences of the last batch beyond `all` only fill it and do not count.
        const Index counted = std::min(batch, all - first);
        const Index of_mine = std::clamp<Index>(counted - mine_.begin, 0, mine_.size());
        Batch sequences = sample(pass_, purpose, first / batch, batch);
        loss_.load(sequences, of_mine);
        if (kind() == LossKind::mean_squared_error) variance.add(sequences, of_mine);
        pass_.forward(network_, loss_.x());
        task_.recycle(std::move(sequences));
        parts.push_back(loss_.evaluate(pass_.tape().readout.data()));
        if (answers && labels) loss_.add_answers(first + mine_.begin, *answers);
        sum.right += parts.back().right;
        sum.terms += parts.back().terms;
    }
    if (answers)
        for (std::vector<std::int64_t>* part : {&answers->label, &answers->named})
            grid_.control().all_reduce_sum(part->data(), Scalar::int64, static_cast<Index>(part->size()));
    for (const Outcome& part : parts) sum.loss += part.loss / (sum.terms / part.terms);
    if (kind() == LossKind::mean_squared_error) sum.r2 = variance.r2(grid_, sum.loss);
    // Counts are integers, so the accuracy does not depend on the division into batches.
    sum.accuracy = has_accuracy(kind()) ? static_cast<double>(sum.right) / sum.terms : parts.back().accuracy;
    return sum;
}

Outcome Trainer::evaluate(Purpose purpose, const HostNetwork& other, Answers* answers) {
    const std::vector<float> mine = network_.values.to_host();
    network_.values.copy_in(other.values.data());
    const Outcome outcome = evaluate(purpose, answers);
    network_.values.copy_in(mine.data());
    return outcome;
}

Trainer::Measurement& Trainer::measurement() {
    if (!measurement_) {
        const DiagnosticsOptions& d = options_.diagnostics;
        const Index T = task_.steps(), b = grid_.sequences_of(d.batch).size();
        const TangentOptions tangent{d.exponents, d.warmup, d.qr_interval, options_.flossing.tangent.reset,
                                     options_.whole_passes};
        measurement_ = std::unique_ptr<Measurement>(
            new Measurement{{},
                            StatePass(backend_, grid_, network_, T, b, {.whole_passes = options_.whole_passes}),
                            LossPass(backend_, grid_, T, b, task_.inputs(), task_.outputs(), kind()),
                            TangentPass(backend_, grid_, network_, tangent, T, b, false),
                            SumBuffer(backend_, network_.layout.size())});
    }
    return *measurement_;
}

Diagnosis Trainer::diagnose() {
    Diagnosis diagnosis;
    measure_states(diagnosis);
    measure_gradient(diagnosis);
    measure_spectrum(diagnosis);
    measure_populations(diagnosis);
    return diagnosis;
}

void Trainer::measure_states(Diagnosis& diagnosis) {
    const Index batch = options_.diagnostics.batch;
    Measurement& m = measurement();
    m.batch = sample(m.state, Purpose::diagnose, progress_.step, batch);
    m.loss.load(m.batch);
    m.state.forward(network_, m.loss.x());
    diagnosis.rate = m.state.tape().spikes.rate();
    diagnosis.outcome = m.loss.evaluate(m.state.tape().readout.data());
}

void Trainer::measure_gradient(Diagnosis& diagnosis) {
    Measurement& m = measurement();
    m.gradient.zero();
    m.state.backward(network_, m.loss.x(), {.dy = m.loss.dy(), .state_norms = true}, m.gradient);
    diagnosis.state_gradient_norm = m.state.state_gradient_norm();
}

void Trainer::measure_spectrum(Diagnosis& diagnosis) {
    const DiagnosticsOptions& d = options_.diagnostics;
    const BlockRange sequences = grid_.sequences_of(d.batch);
    Measurement& m = measurement();
    m.tangents.forward(network_, m.state, bases(options_.seed, d.exponents, network_, sequences), sequences.begin);
    diagnosis.spectrum = mean_spectrum(grid_, m.tangents, d.batch, network_.state_size());
}

void Trainer::measure_populations(Diagnosis& diagnosis) {
    const StatePass& state = measurement().state;
    const Topology& topology = network_.layout.topology();
    if (topology.populations.size() < 2) return;
    std::vector<BlockRange> ranges;
    for (const Population& population : topology.populations) ranges.push_back(population.range());
    std::vector<std::int64_t> spikes = state.tape().spikes.counts(ranges);
    grid_.control().all_reduce_sum(spikes.data(), Scalar::int64, static_cast<Index>(spikes.size()));
    for (std::size_t i = 0; i < ranges.size(); ++i)
        diagnosis.population_rates.emplace_back(
            topology.populations[i].name,
            static_cast<double>(spikes[i]) /
                static_cast<double>(ranges[i].size() * state.steps() * options_.diagnostics.batch));

    // [projections][zeros, weights]. The batch shards have the same weights.
    std::vector<std::int64_t> counts(2 * topology.projections.size(), 0);
    const std::vector<float> values = network_.values.to_host();
    for (const Segment& segment : network_.layout.segments()) {
        const auto projection = static_cast<std::size_t>(segment.projection);
        if (segment.projection < 0 || grid_.batch_shard() != 0 || topology.projections[projection].sign == Sign::any)
            continue;
        segment.each_row(values.data(), [&](const float* row, Index) {
            counts[2 * projection] += std::count(row, row + segment.cols, 0.0f);
        });
        counts[2 * projection + 1] += segment.size();
    }
    grid_.control().all_reduce_sum(counts.data(), Scalar::int64, static_cast<Index>(counts.size()));
    for (std::size_t i = 0; i < topology.projections.size(); ++i)
        if (counts[2 * i + 1] > 0)
            diagnosis.zero_shares.emplace_back(
                topology.projections[i].name,
                static_cast<double>(counts[2 * i]) / static_cast<double>(counts[2 * i + 1]));
}

Raster Trainer::raster(Index most) {
    const StatePass& state = measurement().state;
    const Index T = state.steps(), N = network_.layout.shape().neurons;
    Index count = std::min(most, N);
    Raster raster{N, T, {}, {}, {}};
    const std::vector<Population>& populations = network_.layout.topology().populations;
    if (populations.size() > 1) raster.populations = populations;
    const auto parts = static_cast<Index>(raster.populations.size());
    const auto show = [&](BlockRange range, Index shown) {
        for (Index i = 0; i < shown; ++i) raster.shown.push_back(range.begin + i * range.size() / shown);
    };
    if (parts == 0 || parts > most || N <= most)
        show({0, N}, count);
    else
        for (const Population& population : populations)
            show(population.range(), 1 + (most - parts) * population.size / N);
    count = static_cast<Index>(raster.shown.size());
    // All neuron shards of a sequence hold the spikes of all neurons.
    int owner = 0;
    while (!block_range(options_.diagnostics.batch, grid_.shape().batch_shards, owner).contains(0)) ++owner;
    std::vector<unsigned char> spiked(static_cast<std::size_t>((T + 1) * count), 0);  // [T+1][count]
    if (grid_.batch_shard() == owner) spiked = state.tape().spikes.raster({0, 1}, raster.shown);
    grid_.control().broadcast(spiked.data(), (T + 1) * count, owner * grid_.shape().neuron_shards);
    if (grid_.rank() != 0) return {N, T, {}, {}, {}};
    raster.spikes.resize(static_cast<std::size_t>(count));
    for (Index t = 1; t <= T; ++t)
        for (Index i = 0; i < count; ++i)
            if (spiked[static_cast<std::size_t>(t * count + i)])
                raster.spikes[static_cast<std::size_t>(i)].push_back(t);
    return raster;
}

double Trainer::measure_adaptive() {
    Diagnosis diagnosis;
    measure_states(diagnosis);
    if (options_.floss_schedule.adaptive_quantity == AdaptiveQuantity::exponent) {
        measure_spectrum(diagnosis);
        return diagnosis.spectrum.exponents.at(static_cast<std::size_t>(options_.penalty.skipped));
    }
    measure_gradient(diagnosis);
    return std::log10(diagnosis.state_gradient_norm.front() / diagnosis.state_gradient_norm.back());
}

std::vector<std::pair<std::string, std::string>> Trainer::passes() const {
    std::vector<std::pair<std::string, std::string>> all = {{"states forwards", pass_.passes().forward.text()},
                                                            {"states backwards", pass_.passes().backward.text()}};
    const bool time_constants = options_.flossing.time_constants;
    if (flossing_) {
        const StatePasses& states = flossing_->state().passes();
        all.emplace_back("flossing, states forwards", states.forward.text());
        if (options_.flossing.through_state) all.emplace_back("flossing, states backwards", states.backward.text());
        all.emplace_back("flossing, tangents forwards", flossing_->tangents().forward_text());
        all.emplace_back("flossing, tangents backwards", flossing_->tangents().backward_text(time_constants));
    }
    if (measurement_) all.emplace_back("diagnostics, tangents", measurement_->tangents.forward_text());
    return all;
}

TrainingState Trainer::state() const {
    return {network_.to_host(), optimiser_.state(), floss_optimiser_.state(), progress_};
}

}  // namespace spikefloss
