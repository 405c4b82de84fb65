#include "commands/time_need.hpp"

#include "commands/options.hpp"
#include "parallel/repeating_communicator.hpp"
#include "train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace spikefloss {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

// The first `steps` of the sequences of a task. All of them count in the loss, so that there are terms.
class ShortTask final : public Task {
public:
    ShortTask(const Task& whole, Index steps) : whole_(whole), steps_(std::min(steps, whole.steps())) {}
    Index steps() const override { return steps_; }
    Index inputs() const override { return whole_.inputs(); }
    Index outputs() const override { return whole_.outputs(); }
    LossKind loss() const override { return whole_.loss(); }
    Index dataset_size(Purpose purpose) const override { return whole_.dataset_size(purpose); }
    Batch sample(Purpose purpose, std::int64_t step, Index count, BlockRange sequences) const override {
        return shortened(whole_.sample(purpose, step, count, sequences));
    }
    Batch sample_bits(Purpose purpose, std::int64_t step, Index count, BlockRange sequences) const override {
        return shortened(whole_.sample_bits(purpose, step, count, sequences));
    }
    void recycle(Batch&& batch) const override { whole_.recycle(std::move(batch)); }

private:
    Batch shortened(Batch batch) const {
        if (steps_ == whole_.steps()) return batch;
        cut(batch.x), cut(batch.x_bits), cut(batch.target);
        batch.steps = steps_;
        batch.mask.assign(static_cast<std::size_t>(steps_ * batch.sequences), 1.0f);
        return batch;
    }
    // An array [whole steps, ...], or an empty one.
    template <class T>
    void cut(std::vector<T>& array) const {
        array.resize(array.size() / static_cast<std::size_t>(whole_.steps()) * static_cast<std::size_t>(steps_));
    }

    const Task& whole_;
    Index steps_;
};

enum class Unit { training, flossing, joint };

// The median time of a unit with the first `steps` of each sequence. The first unit, with cold caches, does not count.
double measured(Backend& backend, const ProcessGrid& grid, const Workload& workload, Unit unit, Index steps,
                double budget) {
    const ShortTask task(workload.task, steps);
    TrainerOptions options = trainer_options(workload.config, workload.task);
    options.floss_horizon = std::min(options.floss_horizon, task.steps());
    options.flossing.tangent.warmup = std::min(options.flossing.tangent.warmup, task.steps() - 1);
    const double joint_weight = options.floss_schedule.joint_weight;
    options.floss_schedule = {};
    if (unit == Unit::flossing) options.floss_schedule.before = 1 << 30;
    if (unit == Unit::joint) options.floss_schedule.every = 1, options.floss_schedule.joint_weight = joint_weight;
    // Small steps, so that the network stays as it is.
    options.optimiser.learning_rate = options.floss_optimiser.learning_rate = 1e-9;
    Trainer trainer(backend, grid, task, options, {workload.network, {}, {}, {}});
    std::vector<double> times;
    const Clock::time_point began = Clock::now();
    do {
        const Clock::time_point start = Clock::now();
        trainer.advance();
        backend.synchronize();
        times.push_back(seconds_since(start));
    } while (times.size() < 3 || (seconds_since(began) < budget && times.size() < 1000));
    times.erase(times.begin());
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
}

// Three whole units may take this many budgets, because a network that starts at rest first has few spikes, then many.
constexpr double patience = 12.0;

// Whole units, or their first steps. Then the time is linear in the steps: some work is of the step, such as passes
// over the neurons, and some of the unit, such as the update of the weights.
TimeNeed predicted(Backend& backend, const ProcessGrid& grid, const Workload& workload, const std::string& name,
                   Unit unit, double budget) {
    const Index whole =
        unit == Unit::flossing ? trainer_options(workload.config, workload.task).floss_horizon : workload.task.steps();
    Index taken = std::min<Index>(whole, 32);
    double seconds = measured(backend, grid, workload, unit, taken, 0.0),
           per_step = seconds / static_cast<double>(taken);
    while (taken < whole && 3.0 * per_step * static_cast<double>(std::min(whole, 2 * taken)) < patience * budget) {
        taken = std::min(whole, 2 * taken);
        const double longer = measured(backend, grid, workload, unit, taken, taken == whole ? budget : 0.0);
        per_step = longer / static_cast<double>(taken);
        seconds = longer;
    }
    if (taken < whole) {
        const Index half = std::max<Index>(1, taken / 2);
        const double shorter = measured(backend, grid, workload, unit, half, budget / 2),
                     longer = measured(backend, grid, workload, unit, taken, budget);
        const double slope = std::max(0.0, longer - shorter) / static_cast<double>(taken - half);
        seconds = longer + slope * static_cast<double>(whole - taken);
    }
    return {name, seconds, whole, taken};
}

}  // namespace

std::vector<TimeNeed> time_need(Backend& backend, GridShape shape, int rank, const Workload& workload, double budget) {
    const int P = shape.neuron_shards, Q = shape.batch_shards;
    const auto copy = [&backend](void* to, const void* from, std::size_t bytes) { backend.copy(to, from, bytes); };
    const auto group = [&](int place, int size) { return std::make_unique<RepeatingCommunicator>(place, size, copy); };
    const ProcessGrid grid(shape, rank, {group(0, 1), group(rank % P, P), group(rank / P, Q)});
    const Config& config = workload.config;
    const TrainerOptions options = trainer_options(config, workload.task);
    const bool joint = options.floss_schedule.joint_weight > 0.0;
    std::vector<TimeNeed> needs = {predicted(backend, grid, workload, "training steps", Unit::training, budget)};
    needs[0].count = config.train.steps;
    if (joint) {
        needs.push_back(predicted(backend, grid, workload, "steps with the penalty", Unit::joint, budget));
        needs[1].count = config.train.steps / std::max<std::int64_t>(1, options.floss_schedule.every);
        needs[0].count -= needs[1].count;
    } else if (!config.flossing.schedule.empty()) {
        needs.push_back(predicted(backend, grid, workload, "flossing steps", Unit::flossing, budget));
        const FlossingScheduleOptions& schedule = options.floss_schedule;
        needs[1].count = schedule.before + static_cast<std::int64_t>(schedule.at.size()) * schedule.at_steps +
                         (schedule.every > 0 ? config.train.steps / schedule.every : 0);
    }
    return needs;
}

std::string time_text(const std::vector<TimeNeed>& needs, const std::string& device) {
    const auto duration = [](double seconds) {
        if (seconds < 1.0) return fmt::format("{:.3g} ms", 1e3 * seconds);
        if (seconds < 120.0) return fmt::format("{:.3g} s", seconds);
        if (seconds < 7200.0) return fmt::format("{:.0f} min", seconds / 60.0);
        return fmt::format("{:.1f} h", seconds / 3600.0);
    };
    std::string text = fmt::format("  time without communication, from a few steps on {}\n", device), counts;
    double whole = 0.0;
    for (const TimeNeed& need : needs) {
        text += fmt::format("    one of the {:15} {:>12}", need.name, duration(need.seconds));
        text += need.taken < need.steps
                    ? fmt::format("   from the first {} of {} steps in time\n", need.taken, need.steps)
                    : fmt::format("   measured, {} steps in time\n", need.steps);
        if (need.count == 0) continue;
        whole += need.seconds * static_cast<double>(need.count);
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", need.count, need.name);
    }
    return text + fmt::format("    {:26} {:>12}   {}; without adaptive flossing, tests and records\n", "the run",
                              duration(whole), counts);
}

}  // namespace spikefloss
