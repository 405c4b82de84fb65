// `train`: from a config to a trained network in a run directory.
#include "commands/run_directory.hpp"
#include "commands/session.hpp"
#include "commands/setup.hpp"
#include "commands/stop_signal.hpp"
#include "io/build_text.hpp"
#include "io/checkpoint.hpp"
#include "io/metrics.hpp"
#include "io/network_file.hpp"
#include "io/progress.hpp"

#include <chrono>
#include <cstdio>
#include <filesystem>

namespace spikefloss {
namespace {

using Clock = std::chrono::steady_clock;

Config resolved_config(const TrainCommand& command) {
    Config config;
    read_config(command.config, config);
    for (const std::string& assignment : command.assignments) set_key(assignment, config);
    if (!command.parallel.grid.empty()) config.parallel.grid = command.parallel.grid;
    if (!command.parallel.backend.empty()) config.parallel.backend = command.parallel.backend;
    if (command.parallel.threads > 0) config.parallel.threads = command.parallel.threads;
    if (!command.run_directory.empty()) config.run.directory = command.run_directory;
    if (config.run.directory.empty())
        config.run.directory = "runs/" + std::filesystem::path(command.config).stem().string();
    check_config(config);
    return config;
}

// Where the run starts: the newest whole checkpoint, a network file, or fresh weights.
TrainingState starting_state(const ProcessGrid& grid, const Config& config, const Task& task, bool resume,
                             ProgressDisplay& display) {
    const Index shards = grid.shape().neuron_shards, shard = grid.neuron_shard();
    if (resume) {
        std::vector<std::string> rejected;
        const std::optional<CheckpointInfo> newest = newest_checkpoint(grid, config.run.directory, rejected);
        for (const std::string& reason : rejected) display.say("skipped a damaged checkpoint: " + reason);
        if (newest) {
            display.say("going on from " + newest->path);
            return read_checkpoint(newest->path, grid);
        }
        display.say("no checkpoint in " + config.run.directory + "; starting from the beginning");
    }
    TrainingState state;
    grid.agree([&] {
        state.network = config.network.file.empty()
                            ? initial_network(initial_settings(config, task), static_cast<std::uint64_t>(config.run.seed), shards, shard)
                            : read_network(config.network.file, shards, shard);
    });
    return state;
}

// The records of one run and the measurements on the way.
class Run {
public:
    Run(const ProcessGrid& grid, const Config& config, Trainer& trainer, ProgressDisplay& display)
        : grid_(grid), config_(config), trainer_(trainer), display_(display), last_report_(Clock::now()), last_unit_(last_report_) {
        const Progress& p = trainer.progress();
        grid.agree([&] {
            if (grid.rank() != 0) return;
            metrics_.emplace(config.run.directory + "/metrics.jsonl", p.step, p.floss_steps);
            if (config.diagnostics.every > 0) diagnostics_.emplace(config.run.directory + "/diagnostics.jsonl", p.step, p.floss_steps);
        });
    }

    void after(const StepReport& report) {
        Progress& p = trainer_.progress();
        const auto now = Clock::now();
        p.seconds += std::chrono::duration<double>(now - last_unit_).count();
        last_unit_ = now;
        MetricsEntry entry{report, p.floss_steps, p.running_accuracy, p.seconds, 0.0, std::nullopt};
        sequences_ += report.flossing ? config_.flossing.batch : config_.train.batch;
        display_.update(entry);
        const std::int64_t count = report.flossing ? p.floss_steps : p.step;
        const bool last = !report.flossing && p.step == config_.train.steps;
        const bool test = !report.flossing && (last || due(config_.train.test_every, p.step));
        if (test) entry.test = trainer_.evaluate();
        if (test || last || due(config_.train.report_every, count)) {
            entry.sequences_per_second = static_cast<double>(sequences_) / std::chrono::duration<double>(now - last_report_).count();
            record(metrics_, metrics_line(entry));
            display_.report(entry);
            sequences_ = 0;
            last_report_ = Clock::now();
        }
        if (!report.flossing && due(config_.diagnostics.every, p.step)) diagnose(report.norms);
        if (!report.flossing && due(config_.checkpoint.every, p.step)) checkpoint();
    }

    void diagnose(const GradientNorms& norms) {
        const Diagnosis diagnosis = trainer_.diagnose();
        record(diagnostics_, diagnostics_line(trainer_.progress().step, trainer_.progress().floss_steps, diagnosis, norms));
    }

    void checkpoint() {
        // Time spent by any rank counts the same for all: rank 0's clock.
        grid_.control().broadcast(&trainer_.progress().seconds, sizeof(double), 0);
        write_checkpoint(grid_, config_.run.directory, trainer_.state(), to_toml(config_, false), build_text(),
                         static_cast<int>(config_.checkpoint.keep));
        saved_ = position();
    }
    bool saved() const { return saved_ == position(); }

private:
    static bool due(std::int64_t every, std::int64_t step) { return every > 0 && step % every == 0; }
    std::pair<std::int64_t, std::int64_t> position() const {
        return {trainer_.progress().step, trainer_.progress().floss_steps};
    }
    void record(std::optional<JsonLines>& lines, const std::string& line) {
        grid_.agree([&] {
            if (lines) lines->write(line);
        });
    }

    const ProcessGrid& grid_;
    const Config& config_;
    Trainer& trainer_;
    ProgressDisplay& display_;
    std::optional<JsonLines> metrics_, diagnostics_;
    Clock::time_point last_report_, last_unit_;
    Index sequences_ = 0;
    std::pair<std::int64_t, std::int64_t> saved_{-1, -1};
};

}  // namespace

int train(const TrainCommand& command) {
    Config config;
    alike([&] { config = resolved_config(command); });
    if (command.print_config) {
        if (is_first_rank()) std::fputs(to_toml(config, true).c_str(), stdout);
        return 0;
    }
    ParallelChoice choice = command.parallel;
    choice.grid = config.parallel.grid;
    choice.backend = config.parallel.backend;
    choice.threads = config.parallel.threads;
    const Session session(choice, sums_from_name(config.run.sums));
    const ProcessGrid& grid = session.grid;
    std::unique_ptr<Task> task;
    grid.agree([&] {
        check_grid(config, grid.shape().neuron_shards, grid.shape().batch_shards);
        task = make_task(task_settings(config));
    });
    const bool silent = grid.rank() != 0;
    ProgressDisplay display(silent, config.train.steps, 0);
    if (command.check) {
        display.say(fmt::format("{} is fine: {} neurons, {} inputs, {} outputs, {} steps, batch {}", command.config,
                                config.network.neurons, task->inputs(), task->outputs(), task->steps(), config.train.batch));
        return 0;
    }
    prepare_run_directory(grid, config.run.directory, config, command.resume);
    TrainingState start = starting_state(grid, config, *task, command.resume, display);
    const NetworkShape shape = start.network.layout.shape();
    display.say(fmt::format("{}: {} neurons, {} inputs, {} outputs, {} steps a sequence, batch {}, on a {}x{} grid with {} "
                            "thread{} a rank; records in {}",
                            config.task.name, shape.neurons, shape.inputs, shape.outputs, task->steps(),
                            config.train.batch, grid.shape().neuron_shards, grid.shape().batch_shards, session.threads,
                            session.threads == 1 ? "" : "s", config.run.directory));
    Trainer trainer(*session.backend, grid, *task, trainer_options(config, *task), std::move(start));
    grid.agree([&] { check_network(config, *task, shape, trainer.network().state_size()); });

    StopSignal stop;
    Run run(grid, config, trainer, display);
    const Progress& progress = trainer.progress();
    if (progress.step == 0 && progress.floss_steps == 0) {
        if (config.diagnostics.every > 0) run.diagnose({});
    }
    while (progress.step < config.train.steps || (config.train.steps == 0 && trainer.flossing_due())) {
        run.after(trainer.advance());
        if (stop.asked(grid)) {
            if (!run.saved()) run.checkpoint();
            display.say(fmt::format("stopped after step {} as asked; go on with --resume", progress.step));
            return static_cast<int>(Exit::stopped);
        }
        if (config.train.stop_accuracy > 0.0 && progress.running_accuracy > config.train.stop_accuracy) {
            display.say(fmt::format("running accuracy {:.2f} % reached; done", 100.0 * progress.running_accuracy));
            break;
        }
    }
    const Outcome outcome = trainer.evaluate();
    if (!run.saved()) run.checkpoint();
    display.say(fmt::format("done: {} steps, {} flossing steps, {:.1f} s; test loss {:.4f}, test accuracy {:.2f} %",
                            progress.step, progress.floss_steps, progress.seconds, outcome.loss, 100.0 * outcome.accuracy));
    return 0;
}

}  // namespace spikefloss
