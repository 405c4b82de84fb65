// The prediction of a run's time: which work is taken, on grids that do not exist. How near it is to the time of a run
// depends on the machine; docs/memory.md has measurements.
#include "commands/time_need.hpp"

#include "backend/instruction_sets.hpp"
#include "commands/options.hpp"
#include "network/initialise.hpp"
#include "parallel/repeating_communicator.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace spikefloss {
namespace {

std::vector<TimeNeed> need_of(const std::vector<const char*>& settings, GridShape grid = {1, 1}, double budget = 0.05) {
    Config config;
    config.network.neurons = 24, config.train.steps = 60;
    for (const char* setting : settings) set_key(setting, config);
    check_config(config);
    const std::unique_ptr<Task> task = make_task(task_settings(config));
    const std::unique_ptr<Backend> backend = make_cpu_backend(1, Sums::float32);
    const int last = grid.neuron_shards * grid.batch_shards - 1;
    return time_need(
        *backend, grid, last,
        {config, *task, initial_network(initial_settings(config, *task), grid.neuron_shards, grid.neuron_shards - 1)},
        budget);
}

TEST(TimeNeed, TrainingStepsAreCounted) {
    const std::vector<TimeNeed> needs = need_of({"task.duration=20"});
    ASSERT_EQ(needs.size(), 1u);
    EXPECT_EQ(needs[0].name, "training steps");
    EXPECT_EQ(needs[0].count, 60);
    EXPECT_EQ(needs[0].steps, 20);
    EXPECT_EQ(needs[0].taken, 20);
    EXPECT_GT(needs[0].seconds, 0.0);
}

TEST(TimeNeed, LongSequencesAreCut) {
    const std::vector<TimeNeed> needs = need_of({"task.duration=20000", "train.batch=64"}, {1, 1}, 1e-6);
    EXPECT_EQ(needs[0].steps, 20000);
    EXPECT_EQ(needs[0].taken, 32);
    EXPECT_GT(needs[0].seconds, 0.0);
}

TEST(TimeNeed, FlossingOfEverySchedule) {
    const auto counts = [](const std::vector<const char*>& settings) {
        std::vector<const char*> all = {"task.duration=20", "flossing.exponents=2", "flossing.warmup=1"};
        all.insert(all.end(), settings.begin(), settings.end());
        std::vector<std::pair<std::string, std::int64_t>> result;
        for (const TimeNeed& need : need_of(all)) result.emplace_back(need.name, need.count);
        return result;
    };
    using Counts = std::vector<std::pair<std::string, std::int64_t>>;
    EXPECT_EQ(counts({"flossing.schedule=before", "flossing.before=7"}),
              (Counts{{"training steps", 60}, {"flossing steps", 7}}));
    EXPECT_EQ(counts({"flossing.schedule=every", "flossing.every=4"}),
              (Counts{{"training steps", 60}, {"flossing steps", 15}}));
    EXPECT_EQ(counts({"flossing.schedule=every", "flossing.every=4", "flossing.weight=0.5"}),
              (Counts{{"training steps", 45}, {"steps with the penalty", 15}}));
}

TEST(TimeNeed, GridsThatDoNotExist) {
    for (const GridShape grid : {GridShape{2, 1}, GridShape{1, 4}, GridShape{3, 2}}) {
        const std::vector<TimeNeed> needs = need_of({"task.duration=20", "flossing.schedule=before",
                                                     "flossing.before=1", "flossing.exponents=2", "flossing.warmup=1"},
                                                    grid);
        ASSERT_EQ(needs.size(), 2u);
        for (const TimeNeed& need : needs) EXPECT_GT(need.seconds, 0.0);
    }
}

TEST(TimeNeed, TextNamesWhatIsLeftOut) {
    const std::string text =
        time_text({{"training steps", 0.25, 100, 100, 240}, {"flossing steps", 2.0, 500, 64, 30}}, "a machine");
    EXPECT_EQ(text,
              "  time without communication, from a few steps on a machine\n"
              "    one of the training steps        250 ms   measured, 100 steps in time\n"
              "    one of the flossing steps           2 s   from the first 64 of 500 steps in time\n"
              "    the run                           2 min   240 training steps, 30 flossing steps; without adaptive "
              "flossing, tests and records\n");
    EXPECT_EQ(time_text({{"training steps", 0.25, 1, 1, 0}, {"flossing steps", 2.0, 1, 1, 3}}, "").find("0 training"),
              std::string::npos);
}

TEST(RepeatingCommunicator, OtherRanksHaveTheSameData) {
    RepeatingCommunicator group(1, 3,
                                [](void* to, const void* from, std::size_t bytes) { std::memmove(to, from, bytes); });
    // Blocks of different length; a block that stands in its place already is not copied.
    std::vector<float> gathered = {9, 9, 1, 2, 3, 9, 9};
    const std::vector<Index> bytes = {8, 12, 8};
    group.all_gather(gathered.data() + 2, gathered.data(), bytes);
    EXPECT_EQ(gathered, (std::vector<float>{1, 2, 1, 2, 3, 1, 2}));
    const std::vector<float> parts = {1, 2, 3, 4, 5, 6};
    const std::vector<Index> counts = {1, 2, 3};
    std::vector<float> own(2);
    group.reduce_scatter_sum(parts.data(), own.data(), Scalar::float32, counts);
    EXPECT_EQ(own, (std::vector<float>{2, 3}));
}

}  // namespace
}  // namespace spikefloss
