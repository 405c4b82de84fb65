#include "train/loss.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikefloss {

LossPass::LossPass(Backend& backend, const ProcessGrid& grid, Index T, Index b, Index M, Index O, LossKind kind)
    : backend_(backend),
      grid_(grid),
      T_(T),
      b_(b),
      O_(O),
      kind_(kind),
      inputs_(backend, T * b * M),
      mask_(backend, T * b),
      target_(backend, takes_labels(kind) ? 0 : T * b * O),
      dy_(backend, T * b * O),
      label_(backend, takes_labels(kind) ? b : 0),
      named_(backend, takes_labels(kind) ? b : 0),
      result_(backend, 2),
      read_result_(backend, 2) {}

void LossPass::load(const Batch& batch, Index counted) {
    SPIKEFLOSS_ASSERT(batch.steps == T_ && batch.sequences == b_ && takes_labels(batch.loss) == takes_labels(kind_));
    SPIKEFLOSS_ASSERT(counted >= 0 && counted <= b_);
    counted_ = counted;
    terms_ = batch.terms(counted);
    unfit_ = count_unfit(batch);
    x_ = inputs_.of(batch);
    mask_.copy_in(counted == b_ ? batch.mask.data() : counted_of(batch.mask, 1).data());
    if (takes_labels(kind_)) return label_.copy_in(batch.label.data());
    target_.copy_in(counted == b_ ? batch.target.data() : counted_of(batch.target, O_).data());
}

// What the loss cannot take.
Index LossPass::count_unfit(const Batch& batch) const {
    Index unfit = 0;
    const auto marked = [&](Index t, Index s) { return batch.mask[static_cast<std::size_t>(t * b_ + s)] != 0.0f; };
    for (Index s = 0; takes_labels(kind_) && s < counted_; ++s) {
        Index t = 0;
        while (t < T_ && !marked(t, s)) ++t;
        unfit += t == T_;
    }
    if (kind_ != LossKind::binary_cross_entropy || batch.loss == kind_) return unfit;
    for (Index t = 0; t < T_; ++t)
        for (Index at = t * b_ * O_; at < (t * b_ + counted_) * O_; ++at) {
            const float target = batch.target[static_cast<std::size_t>(at)];
            unfit += marked(t, at / O_ % b_) && !(target >= 0.0f && target <= 1.0f);
        }
    return unfit;
}

// Of an array [T, b, row], the sequences that count, [T, counted, row]. The rest of the result is unused.
std::vector<float> LossPass::counted_of(const std::vector<float>& host, Index row) const {
    std::vector<float> result(host.size());
    for (Index t = 0; t < T_; ++t)
        std::copy_n(host.begin() + t * b_ * row, counted_ * row, result.begin() + t * counted_ * row);
    return result;
}

// The readout of the sequences that count, [T, counted, O].
const float* LossPass::counted_of(const float* y) {
    if (counted_ == b_) return y;
    if (counted_y_.size() != T_ * counted_ * O_) counted_y_ = Buffer<float>(backend_, T_ * counted_ * O_);
    for (Index t = 0; counted_ > 0 && t < T_; ++t)
        backend_.copy(counted_y_.data() + t * counted_ * O_, y + t * b_ * O_,
                      static_cast<std::size_t>(counted_ * O_) * sizeof(float));
    return counted_y_.data();
}

// Throws for a batch with `unfit` sequences or targets that the loss cannot take, or without any step that counts.
void LossPass::refuse(double unfit) const {
    require(unfit == 0.0, Exit::usage,
            takes_labels(kind_) ? fmt::format("no step counts for the loss in {} sequences of a batch", unfit)
                                : fmt::format("{} targets of a batch are not between 0 and 1", unfit),
            takes_labels(kind_) ? "set the mask to 1 where the answer is expected"
                                : "choose mean_squared_error, or targets of 0 and 1");
    throw Error(Exit::usage, "no step of the sequences counts for the loss: the mask is 0 throughout",
                "set the mask to 1 where the answer is expected");
}

double LossPass::begin(const float* y) {
    // Each counts, because a plan has only one rank, which may be any.
    double counts[2] = {static_cast<double>(terms_), static_cast<double>(unfit_)};
    grid_.control().all_reduce_sum(counts, Scalar::float64, 2);
    all_terms_ = counts[0] / grid_.shape().neuron_shards;
    if (grid_.control().size() < grid_.ranks())
        all_terms_ = std::max(all_terms_, 1.0);  // the plan of a rank without terms
    const double unfit = counts[1] / grid_.shape().neuron_shards;
    if (unfit > 0.0 || all_terms_ == 0.0) grid_.agree([&] { refuse(unfit); });
    const auto weight = static_cast<float>(1.0 / all_terms_);
    if (!takes_labels(kind_))
        backend_.element_loss(kind_, T_, counted_, O_, counted_of(y), target_.data(), mask_.data(), weight, dy_.data(),
                              result_.data());
    else
        backend_.softmax_cross_entropy(kind_, T_, counted_, O_, counted_of(y), label_.data(), mask_.data(), weight,
                                       dy_.data(), named_.data(), result_.data());
    read_result_.begin(result_);
    return all_terms_;
}

Outcome LossPass::end() {
    // All ranks wait for their part of the forward pass, because it needs data of the others. Then only the first
    // neuron shard of a batch shard contributes: all of them hold the same readout.
    const std::span<const double> mine = read_result_.get();
    double sums[2] = {0.0, 0.0};
    if (grid_.neuron_shard() == 0) std::ranges::copy(mine, sums);
    grid_.control().all_reduce_sum(sums, Scalar::float64, 2);
    const double accuracy = has_accuracy(kind_) ? sums[1] / all_terms_ : std::numeric_limits<double>::quiet_NaN();
    return {sums[0] / all_terms_, accuracy, std::llround(sums[1]), all_terms_};
}

void TargetVariance::add(const Batch& batch, Index counted) {
    const Index b = batch.sequences, O = batch.outputs;
    sum_.resize(static_cast<std::size_t>(O), 0.0);
    for (Index t = 0; t < batch.steps; ++t)
        for (Index s = 0; s < counted; ++s) {
            if (batch.mask[static_cast<std::size_t>(t * b + s)] == 0.0f) continue;
            steps_ += 1.0;
            for (Index o = 0; o < O; ++o) {
                const double target = batch.target[static_cast<std::size_t>((t * b + s) * O + o)];
                sum_[static_cast<std::size_t>(o)] += target;
                squares_ += target * target;
            }
        }
}

double TargetVariance::r2(const ProcessGrid& grid, double loss) const {
    std::vector<double> sums = sum_;
    sums.push_back(steps_);
    sums.push_back(squares_);
    if (grid.neuron_shard() != 0) std::fill(sums.begin(), sums.end(), 0.0);  // all neuron shards have the same targets
    grid.control().all_reduce_sum(sums.data(), Scalar::float64, static_cast<Index>(sums.size()));
    const std::size_t O = sum_.size();
    double total = sums[O + 1];
    for (std::size_t o = 0; o < O; ++o) total -= sums[o] * sums[o] / sums[O];
    const double residual = loss * sums[O] * static_cast<double>(O);
    // Equal targets leave only what rounding leaves.
    return total > 1e-12 * sums[O + 1] ? 1.0 - residual / total : std::numeric_limits<double>::quiet_NaN();
}

void LossPass::add_answers(Index first, Answers& answers) const {
    if (grid_.neuron_shard() != 0) return;  // all neuron shards name the same classes
    const std::vector<std::int32_t> label = label_.to_host(), named = named_.to_host();
    std::copy_n(label.begin(), counted_, answers.label.begin() + first);
    std::copy_n(named.begin(), counted_, answers.named.begin() + first);
}

}  // namespace spikefloss
