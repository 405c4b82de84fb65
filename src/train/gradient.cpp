#include "train/gradient.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

std::size_t bytes_of(Index floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

}  // namespace

Gradient::Gradient(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout)
    : backend_(backend),
      grid_(grid),
      layout_(layout),
      sums_(backend, layout.size()),
      rounded_(backend.sums() == Sums::float64 ? Buffer<float>(backend, layout.size()) : Buffer<float>()),
      reduced_(rounded_ ? rounded_.data() : static_cast<float*>(sums_.data())),
      squares_(backend, parameter_count + 1),
      read_squares_(backend, parameter_count + 1) {}

SumBuffer& Gradient::start() {
    sums_.zero();
    return sums_;
}

void Gradient::complete(std::initializer_list<Parameter> parameters) {
    if (!grid_.batch().overlaps()) return;
    std::vector<SumRange> ranges;
    for (Parameter p : parameters) {
        const auto [offset, count] = layout_.extent(p);
        ranges.push_back({sums_.data(offset), count});
        begun_[static_cast<std::size_t>(p)] = true;
    }
    grid_.batch().begin_sums(ranges, sums_.type());
}

// Starts the sums over batch shards that have not started, and finishes all of them.
void Gradient::sum_over_batch() {
    if (std::find(begun_.begin(), begun_.end(), true) == begun_.end())
        return grid_.batch().all_reduce_sum(sums_.data(), sums_.type(), sums_.size());
    std::vector<SumRange> ranges;
    for (Parameter p : all_parameters) {
        const auto [offset, count] = layout_.extent(p);
        if (count && !begun_[static_cast<std::size_t>(p)]) ranges.push_back({sums_.data(offset), count});
    }
    grid_.batch().begin_sums(ranges, sums_.type());
    grid_.batch().finish_sums();
    begun_.fill(false);
}

void Gradient::begin_reduce(std::span<const Rectangle> parts) {
    sum_over_batch();
    if (rounded_) backend_.round_sums(sums_.data(), reduced_, layout_.size());
    for (const Rectangle& hole : layout_.holes())
        backend_.zero_rows(reduced_ + hole.offset, static_cast<std::size_t>(hole.rows), bytes_of(hole.cols),
                           bytes_of(hole.stride));
    // Every batch shard now holds the same value; only the first contributes, and of replicated parameters only the
    // first neuron shard.
    squares_.zero();
    if (grid_.batch_shard() == 0) {
        std::vector<Squares> squares;
        for (const Parameter p : all_parameters) {
            const auto [offset, count] = layout_.extent(p);
            if (count && (!layout_.replicated(p) || grid_.neuron_shard() == 0))
                squares.push_back({reduced_ + offset, 1, count, count, squares_.data() + static_cast<Index>(p)});
        }
        for (const auto& [offset, rows, cols, stride] : parts)
            squares.push_back({reduced_ + offset, rows, cols, stride, squares_.data() + parameter_count});
        backend_.sum_squares(squares);
    }
    read_squares_.begin(squares_);
}

GradientNorms Gradient::end_reduce(std::span<const Parameter> trained) {
    const std::span<const double> mine = read_squares_.get();
    std::vector<double> squares(mine.begin(), mine.end());
    grid_.control().all_reduce_sum(squares.data(), Scalar::float64, parameter_count + 1);
    GradientNorms norms;
    norms.global = squares.back();
    for (Parameter p : all_parameters) {
        if (!layout_.has(p)) continue;
        norms.present.push_back(p);
        const auto at = static_cast<std::size_t>(p);
        norms.parameter[at] = std::sqrt(squares[at]);
        if (std::find(trained.begin(), trained.end(), p) != trained.end()) norms.global += squares[at];
    }
    norms.global = std::sqrt(norms.global);
    return norms;
}

std::vector<float> Gradient::to_host() const {
    std::vector<float> host(static_cast<std::size_t>(layout_.size()));
    backend_.copy_out(host.data(), reduced_, host.size() * sizeof(float));
    return host;
}

}  // namespace spikefloss
