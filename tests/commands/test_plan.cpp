// The memory and communication that `info --plan` prints are those of a run on that grid. The plan is made in one
// process; the run has all ranks.
#include "backend/cpu_backend.hpp"
#include "commands/memory_need.hpp"
#include "commands/options.hpp"
#include "network/initialise.hpp"

#include <gtest/gtest.h>

#include <map>

namespace spikefloss {
namespace {

std::size_t padded(std::size_t bytes) { return (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0); }

// Knows the most memory that it held at a time, as the plan counts it: every array is a multiple of 256 bytes. Every
// Cholesky QR leaves doubt, so it is taken again by Householder.
class MeasuredBackend final : public CpuBackend {
public:
    MeasuredBackend(int threads, Sums sums, bool doubt) : CpuBackend(threads, sums), doubt_(doubt) {}
    void* allocate(std::size_t bytes) override {
        void* data = CpuBackend::allocate(bytes);
        held_ += sizes_[data] = padded(bytes);
        most = std::max(most, held_);
        return data;
    }
    // So that inputs of batches are copied to arrays, which the plan counts.
    bool is_host() const override { return false; }
    void deallocate(void* data) noexcept override {
        held_ -= sizes_[data];
        CpuBackend::deallocate(data);
    }
    void cholesky(Index b, Index k, const QrRound& round, double* g, double* r, double* log_r,
                  const QrFindings& findings) override {
        CpuBackend::cholesky(b, k, round, g, r, log_r, findings);
        for (Index s = 0; doubt_ && s < b; ++s) findings.failure[2 * s] = findings.failure[2 * s + 1] = 1;
    }
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override {
        struct Doubtful final : TangentForward {
            Doubtful(std::unique_ptr<TangentForward> of, Index b_) : kept(std::move(of)), b(b_) {}
            void run(const TangentForwardCall& call) override {
                kept->run(call);
                std::fill_n(call.findings.failure, 2 * b, 1);
            }
            std::unique_ptr<TangentForward> kept;
            Index b;
        };
        TangentPasses passes = CpuBackend::tangent_passes(plan, memory);
        std::unique_ptr<TangentForward>& forward = passes.forward.pass;
        if (doubt_ && forward) forward = std::make_unique<Doubtful>(std::move(forward), plan.basis.b);
        return passes;
    }
    std::size_t most = 0;

private:
    bool doubt_;
    std::size_t held_ = 0;
    std::map<void*, std::size_t> sizes_;
};

// Adds up the data sent through another communicator.
class MeasuredCommunicator final : public Communicator {
public:
    MeasuredCommunicator(std::unique_ptr<Communicator> real, Traffic& sent) : real_(std::move(real)), sent_(sent) {}
    int rank() const override { return real_->rank(); }
    int size() const override { return real_->size(); }
    void all_gather(const void* send, void* receive, std::span<const Index> bytes) override {
        count(bytes[static_cast<std::size_t>(rank())]);
        real_->all_gather(send, receive, bytes);
    }
    void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) override {
        Index elements = 0;
        for (Index block : counts) elements += block;
        count(elements * static_cast<Index>(size_of(type)));
        real_->reduce_scatter_sum(send, receive, type, counts);
    }
    void all_reduce_sum(void* data, Scalar type, Index elements) override {
        count(elements * static_cast<Index>(size_of(type)));
        real_->all_reduce_sum(data, type, elements);
    }
    void broadcast(void* data, Index bytes, int root) override {
        count(bytes);
        real_->broadcast(data, bytes, root);
    }
    void barrier() override {
        count(0);
        real_->barrier();
    }

private:
    void count(Index bytes) {
        if (size() > 1) sent_.add(bytes);
    }
    std::unique_ptr<Communicator> real_;
    Traffic& sent_;
};

Config small_config(const std::string& more) {
    Config config;
    read_config_text(R"([network]
neurons = 23
tau_syn = 2.0
[task]
name = "delayed_copy"
duration = 30.0
delay = 3.0
[train]
batch = 7
steps = 4
test_batches = 1
[diagnostics]
every = 1
exponents = 3
batch = 7
warmup = 2
qr_interval = 1
)" + more,
                     "small", config);
    check_config(config);
    return config;
}

void expect_equal(const Traffic& found, const Traffic& planned, const char* what) {
    EXPECT_EQ(found.calls, planned.calls) << what;
    EXPECT_EQ(found.bytes, planned.bytes) << what;
}

// Runs on `shape` and compares each rank with the plan for it, which is made in a process without the other ranks.
void compare(GridShape shape, const Config& config, int threads, Sums sums) {
    SCOPED_TRACE(testing::Message() << shape.neuron_shards << "x" << shape.batch_shards);
    TrafficNeed sent;
    ProcessGrid grid(MPI_COMM_WORLD, shape);
    Communicators real = grid.host_communicators();
    grid.connect({std::move(real.world), std::make_unique<MeasuredCommunicator>(std::move(real.neurons), sent.neurons),
                  std::make_unique<MeasuredCommunicator>(std::move(real.batch), sent.batch)});
    const std::unique_ptr<Task> task = make_task(task_settings(config));
    const InitialNetwork initial = initial_settings(config, *task);
    const Workload workload{config, *task, planned_network(initial, shape.neuron_shards, grid.neuron_shard())};
    // Only one neuron shard can take a QR by Householder, and only without delays.
    const bool delays = workload.network.layout.topology().longest_delay() > 1;
    MeasuredBackend backend(threads, sums, shape.neuron_shards == 1 && !delays);
    CpuBackend like(threads, sums);
    TrainingState start;
    start.network = initial_network(initial, shape.neuron_shards, grid.neuron_shard());
    Trainer trainer(backend, grid, *task, trainer_options(config, *task), std::move(start));

    const std::vector<TrafficNeed> planned = traffic_need(like, shape, grid.rank(), workload);
    const auto measured = [&](const auto& work) {
        sent.neurons = sent.batch = {};
        work();
        return sent;
    };
    const bool joint = config.flossing.weight > 0.0, before = config.flossing.before > 0;
    ASSERT_EQ(planned.size(), 2u + joint + before);
    const auto check = [&](std::size_t at, const TrafficNeed& found) {
        expect_equal(found.neurons, planned[at].neurons, planned[at].name.c_str());
        expect_equal(found.batch, planned[at].batch, planned[at].name.c_str());
        EXPECT_EQ(planned[at].neurons.calls > 0, shape.neuron_shards > 1);
    };
    if (before) check(1, measured([&] { trainer.advance(); }));
    check(joint ? 1 : 0, measured([&] { trainer.advance(); }));
    check(planned.size() - 1, measured([&] { trainer.diagnose(); }));

    const MemoryNeed need = memory_need(like, shape, grid.rank(), workload, 0);
    EXPECT_EQ(need.scratch, backend.scratch_bytes());
    EXPECT_EQ(need.arrays + padded(need.scratch), backend.most);
    EXPECT_EQ(need.passes, trainer.passes());
    const bool whole = shape.neuron_shards == 1 && sums == Sums::float32 &&
                       config.parallel.passes == PassKind::automatic && config.populations.empty();
    EXPECT_EQ(need.passes.front().second.find("loop") != 0, whole) << passes_text(need);
    std::size_t parts = 0;
    for (const MemoryNeed::Part& part : need.parts) parts += part.bytes;
    EXPECT_EQ(parts, need.arrays);
}

int world_size() {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return ranks;
}

void compare_on_all_grids(const Config& config) {
    const int ranks = world_size();
    for (int P = 1; P <= ranks; ++P)
        if (ranks % P == 0)
            for (const Sums sums : {Sums::float32, Sums::float64}) compare({P, ranks / P}, config, 1 + P, sums);
}

// The need of the small training with these settings, where the ranks share the sequences.
MemoryNeed need_with(const std::vector<const char*>& settings, Sums sums = Sums::float32) {
    const ProcessGrid grid(MPI_COMM_WORLD, {1, world_size()});
    Config config = small_config("");
    for (const char* setting : settings) set_key(setting, config);
    const std::unique_ptr<Task> task = make_task(task_settings(config));
    CpuBackend backend(1, sums);
    return memory_need(
        backend, grid.shape(), grid.rank(),
        {config, *task,
         planned_network(initial_settings(config, *task), grid.shape().neuron_shards, grid.neuron_shard())},
        0);
}

TEST(Plan, TrainingAndDiagnostics) { compare_on_all_grids(small_config("")); }

const std::string flossing_before = R"([flossing]
schedule = ["before"]
before = 1
exponents = 4
batch = 7
warmup = 2
qr_interval = 3
)";

TEST(Plan, FlossingStepsOfTheirOwn) { compare_on_all_grids(small_config(flossing_before)); }

TEST(Plan, ThePenaltyInTheTrainingStep) {
    compare_on_all_grids(small_config(R"([flossing]
schedule = ["every"]
weight = 0.3
exponents = 4
batch = 7
warmup = 2
qr_interval = 1
)"));
}

// Sparse and dense projections, delay lines, adaptation, signs.
TEST(Plan, Populations) {
    Config config = small_config(flossing_before + R"([[population]]
name = "exc"
neurons = 29
[[population]]
name = "inh"
neurons = 11
[[projection]]
source = "input"
target = "exc"
[[projection]]
source = "exc"
target = "inh"
in_degree = 5
delay = 3.0
sign = "excitatory"
[[projection]]
source = "exc"
target = "exc"
density = 0.3
[[projection]]
source = "inh"
target = "exc"
delay = 2.0
)");
    config.network.adaptation = Adaptation::threshold;
    config.network.refractory = 2.0;
    compare_on_all_grids(config);
}

// The form of each pass in the plan is the form in the run.
TEST(Plan, PassesAreToldWithTheirReasons) {
    const auto told = [](const std::vector<const char*>& settings, Sums sums = Sums::float32) {
        return passes_text(need_with(settings, sums));
    };
    const std::string limits = "taken up to 160 neurons, 8 inputs and 8 readouts, with float32 sums",
                      network = "network (one rank holds all neurons; " + limits + ")",
                      rows = "rows (one rank holds all neurons; network is " + limits +
                             "; taken up to 32768 neurons, with float32 sums)",
                      recurrence = "taken up to 256 neurons, or 512 with 16 exponents or more, with float32 sums",
                      tangents = "whole recurrence (one rank holds all neurons; " + recurrence + ")";
    EXPECT_EQ(told({}), "states forwards and states backwards: " + network + "; diagnostics, tangents: " + tangents);
    EXPECT_EQ(told({"diagnostics.every=0", "network.neurons=161"}), "states forwards and states backwards: " + rows);
    EXPECT_EQ(told({"diagnostics.every=0", "parallel.passes=loop"}),
              "states forwards and states backwards: loop over steps (whole passes are switched off)");
    EXPECT_EQ(
        told({"diagnostics.every=0", "train.parameters=alpha"}),
        "states forwards: " + network + "; states backwards: loop over steps (constants of the neurons are trained)");
    EXPECT_EQ(told({"diagnostics.every=0"}, Sums::float64),
              "states forwards and states backwards: loop over steps (network is " + limits +
                  "; rows is taken up to 32768 neurons, with float32 sums)");
    EXPECT_EQ(
        told({"diagnostics.every=0", "flossing.schedule=every", "flossing.exponents=2", "flossing.warmup=1",
              "network.neurons=600"}),
        "states forwards and states backwards and flossing, states forwards and flossing, states backwards: " + rows +
            "; flossing, tangents forwards and flossing, tangents backwards: loop over steps (whole recurrence is " +
            recurrence + ")");
}

// Products with lists of spikes, whole passes by rows and without any, and time constants.
TEST(Plan, ScratchOfLargerNetworks) {
    const std::string flossing = R"([flossing]
schedule = ["before"]
before = 1
exponents = 5
batch = 6
warmup = 2
qr_interval = 2
)";
    for (const char* setting : {"parallel.passes=auto", "parallel.passes=loop", "train.parameters=alpha,w_rec"}) {
        SCOPED_TRACE(setting);
        Config config = small_config(flossing);
        for (const char* each : {setting, "network.neurons=170", "train.batch=16", "task.duration=60"})
            set_key(each, config);
        compare_on_all_grids(config);
    }
}

TEST(Plan, SegmentsAndTheAdjointCap) {
    Config config = small_config("");
    config.train.tape = TapeKind::segments;
    config.train.adjoint_cap = 2.0;
    compare_on_all_grids(config);
}

// The purpose of a plan: the weights are 160 GB, and none of them is allocated.
TEST(Plan, NeedsNoMemoryForItself) {
    Config config;
    config.network.neurons = 200000;
    config.train.batch = 1;
    const std::unique_ptr<Task> task = make_task(task_settings(config));
    CpuBackend backend(1, Sums::float32);
    EXPECT_GT(
        memory_need(backend, {1, 1}, 0, {config, *task, planned_network(initial_settings(config, *task), 1, 0)}, 0)
            .parts.front()
            .bytes,
        std::size_t{160'000'000'000});
}

// One gradient, with a second array where the sums are doubles; and moments of trained parameters: two of Adam, one of
// SGD with momentum.
TEST(Plan, OptimisersHoldWhatTheyNeed) {
    const auto bytes = [](const std::vector<const char*>& settings, Sums sums = Sums::float32) {
        return need_with(settings, sums).parts.at(1).bytes;
    };
    EXPECT_EQ(small_config("").network.neurons, 23);
    // Floats in multiples of 64: w_rec 23 x 23 in 576; w_in, bias, w_out, bias_out in 64 each; the 692 of all
    // parameters in 704, as doubles in 1408. The norms take 64.
    const std::size_t w_rec = 4 * 576, trained = w_rec + 4 * 4 * 64, gradient = 4 * (704 + 64);
    EXPECT_EQ(bytes({}), gradient + 2 * trained);
    EXPECT_EQ(bytes({}, Sums::float64), gradient + 4 * 1408 + 2 * trained);
    EXPECT_EQ(bytes({"train.parameters=w_rec"}), gradient + 2 * w_rec);
    EXPECT_EQ(bytes({"train.optimiser=sgd"}), gradient);
    EXPECT_EQ(bytes({"train.optimiser=sgd", "train.momentum=0.9"}), gradient + trained);
    EXPECT_EQ(bytes({"flossing.schedule=every", "flossing.exponents=2", "flossing.warmup=1"}),
              gradient + 2 * trained + 2 * w_rec);
}

// The alphas as floats decide whether there is a current, in the plan as in the run.
TEST(Plan, KnowsWhetherAlphasAreZero) {
    for (const double tau : {0.0, 1.0 / 105.0, 1.0 / 103.0, 5.0}) {
        InitialNetwork initial;
        initial.shape = {3, 1, 1};
        initial.populations[0].tau_syn = tau;
        EXPECT_EQ(initial.has_current(), initial_network(initial, 1, 0).has_current()) << tau;
        EXPECT_EQ(initial.has_current(), tau > 1.0 / 104.0) << tau;
    }
}

}  // namespace
}  // namespace spikefloss
