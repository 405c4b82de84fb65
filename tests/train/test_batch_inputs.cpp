// Training with inputs as bits, where the batch has them, is training with numbers, to the bit.
#include "support/near.hpp"
#include "support/small_training.hpp"

#include <map>

namespace spikefloss {
namespace {

using namespace testing_support;

// Sequences of 40 inputs of 0 and 1. A recycled batch is overwritten, so a pass that still used it would fail.
class BitsTask final : public Task {
public:
    explicit BitsTask(bool bits) : bits_(bits) {
        TaskSettings settings;
        settings.name = TaskKind::delayed_xor;
        settings.seed = 3, settings.duration = 90, settings.delay = 4;
        settings.inputs = 40, settings.coding = BitCoding::spikes, settings.rate_active = 0.2,
        settings.rate_silent = 0.05;
        task_ = make_task(settings);
    }
    Index steps() const override { return task_->steps(); }
    Index inputs() const override { return task_->inputs(); }
    Index outputs() const override { return task_->outputs(); }
    LossKind loss() const override { return task_->loss(); }
    Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        return task_->sample(purpose, step, batch, sequences);
    }
    Batch sample_bits(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        Batch result = sample(purpose, step, batch, sequences);
        ++asked_[purpose];
        if (bits_) use_bits(result);
        return result;
    }
    void recycle(Batch&& batch) const override {
        std::fill(batch.x.begin(), batch.x.end(), 9.0f);
        std::fill(batch.x_bits.begin(), batch.x_bits.end(), ~std::uint32_t{0});
        recycled_.push_back(std::move(batch));
    }
    std::map<Purpose, int> asked() const { return asked_; }

private:
    bool bits_;
    std::unique_ptr<Task> task_;
    mutable std::map<Purpose, int> asked_;
    mutable std::vector<Batch> recycled_;
};

HostNetwork network_of_many_inputs() {
    InitialNetwork settings;
    settings.shape = {24, 40, 1};
    settings.model.neuron.sharpness = 2.0f;
    settings.projections[0].gain = 1.0;
    settings.populations[0].bias_mean = 0.5;
    settings.seed = 5;
    return initial_network(settings, 1, 0);
}

TEST(BatchInputs, BitsAreTheSameTraining) {
    for (const Flossing flossing : {Flossing::every, Flossing::joint}) {
        TrainerOptions options = small_options(flossing);
        options.floss_horizon = 88;
        options.diagnostics.batch = 3;
        const std::unique_ptr<Backend> backend = make_cpu_backend(2, Sums::float32);
        const auto run = [&](bool bits) {
            const BitsTask task(bits);
            Trainer trainer(*backend, alone(), task, options, {network_of_many_inputs(), {}, {}, {}});
            while (trainer.progress().step < 4) trainer.advance();
            const double loss = trainer.evaluate().loss;
            const Diagnosis diagnosis = trainer.diagnose();
            for (const Purpose purpose : {Purpose::train, Purpose::test, Purpose::floss, Purpose::diagnose})
                EXPECT_GT(task.asked()[purpose], 0) << static_cast<int>(purpose);
            return std::tuple(trainer.state().network.values, loss, diagnosis.spectrum.exponents,
                              diagnosis.state_gradient_norm);
        };
        const auto bits = run(true), numbers = run(false);
        EXPECT_EQ(bits, numbers);
        EXPECT_FALSE(all_equal(std::get<0>(bits), network_of_many_inputs().values)) << "nothing was trained";
    }
}

// A backend whose sums are float64 has no products with bits, so no pass takes them.
TEST(BatchInputs, NobodyAsksForBitsThatNoPassTakes) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1, Sums::float64);
    const BitsTask task(true);
    TrainerOptions options = small_options(Flossing::every);
    Trainer trainer(*backend, alone(), task, options, {network_of_many_inputs(), {}, {}, {}});
    while (trainer.progress().step < 2) trainer.advance();
    EXPECT_TRUE(task.asked().empty());
}

}  // namespace
}  // namespace spikefloss
