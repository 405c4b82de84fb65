// `eval`: loss and accuracy of a checkpoint on fresh or held-out data.
#include "commands/options.hpp"
#include "commands/run_directory.hpp"
#include "commands/session.hpp"
#include "core/whole_file.hpp"
#include "io/checkpoint.hpp"
#include "io/metrics.hpp"
#include "io/record.hpp"
#include "sequences/open_task.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace spikefloss {

namespace {

// Sets a key. Only keys that a resumed run may change are accepted, such as the place of the data.
void assign(const std::string& assignment, Config& config) {
    Config before = config;
    set_key(assignment, config);
    const std::string changed = forbidden_changes(config, before);
    require(changed.empty(), Exit::usage,
            fmt::format("--set {}: the checkpoint belongs to another network or task:{}", assignment, changed),
            "use keys that a resumed run may change, or train a network with the other value");
}

// Whether a file was written by --confusion, or by a run.
bool is_confusion(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return read_confusion(std::string{std::istreambuf_iterator<char>(file), {}}).has_value();
}

// The accuracy on each group; and on the groups that training had, and on the others.
void print_groups(const Grouping& groups, const Answers& answers) {
    const std::vector<GroupScore> scores = group_scores(groups, answers);
    if (scores.empty()) return;
    fmt::print("\n   {:24}  sequences   accuracy\n", groups.name);
    const auto row = [](const std::string& name, std::int64_t sequences, std::int64_t right, const char* remark) {
        if (sequences == 0) return;
        const double share = static_cast<double>(right) / static_cast<double>(sequences);
        fmt::print("   {:24}  {:9}   {:6.2f} %{}\n", name, sequences, 100.0 * share, remark);
    };
    constexpr std::size_t most_lines = 50;
    std::int64_t sequences[2] = {}, right[2] = {};
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const GroupScore& s = scores[i];
        if (i < most_lines)
            row(fmt::format("{} {}", s.group, s.name), s.sequences, s.right, s.trained ? "" : "   not in training");
        sequences[s.trained] += s.sequences;
        right[s.trained] += s.right;
    }
    if (scores.size() > most_lines) fmt::print("   ... {} more\n", scores.size() - most_lines);
    row("all in training", sequences[1], right[1], "");
    row("all not in training", sequences[0], right[0], "");
}

// The path of the best checkpoint that the newest one names. Collective.
std::string best_of_run(const std::string& newest, const ProcessGrid& grid) {
    std::string path;
    grid.agree([&] {
        const std::int64_t step = read_progress(newest).best_step;
        require(step >= 0, Exit::usage, fmt::format("{} names no best network", newest),
                "leave --best out; a run with train.keep_best keeps its best network");
        path = best_checkpoint(std::filesystem::path(newest).parent_path().string(), step);
    });
    require_whole_checkpoint(path, grid);
    return path;
}

}  // namespace

int evaluate(const ProcessGrid& everyone, const EvalCommand& command) {
    ParallelChoice choice = command.parallel;
    Config config;
    CheckpointOrigin origin;
    std::string path = command.checkpoint;
    std::error_code code;
    if (std::filesystem::is_directory(path, code)) {
        std::vector<std::string> rejected;
        const std::optional<CheckpointInfo> newest = newest_checkpoint(everyone, path, rejected);
        for (const std::string& reason : rejected)
            if (everyone.rank() == 0) std::fprintf(stderr, "skipped a damaged checkpoint: %s\n", reason.c_str());
        everyone.agree([&] {
            require(newest.has_value(), Exit::bad_file, fmt::format("{} holds no whole checkpoint", path),
                    "name a run directory or a checkpoint_*.h5 file of spikefloss");
        });
        everyone.agree([&] {
            if (everyone.rank() != 0 || !std::filesystem::exists(path + "/config.toml")) return;
            Config run;
            read_config(path + "/config.toml", run);
            require_own_checkpoint(newest->path, read_checkpoint_origin(newest->path), run, origin_in(path).run);
        });
        path = newest->path;
        if (command.best) path = best_of_run(path, everyone);
    } else {
        everyone.agree([&] {
            require(!command.best, Exit::usage, fmt::format("--best needs a run directory, but {} is a file", path),
                    "name the directory of the run, or leave --best out");
        });
        require_whole_checkpoint(path, everyone);
    }
    everyone.agree([&] {
        origin = read_checkpoint_origin(path);
        read_config_text(origin.config, path + " (config)", config);
        for (const std::string& assignment : command.assignments) assign(assignment, config);
        if (command.batches > 0) config.train.test_batches = command.batches;
        config.flossing.schedule.clear();
        config.diagnostics.every = 0;
    });
    choice.precision = choice.precision.value_or(config.run.precision);
    const Session session(everyone, choice, config.run.sums);
    const ProcessGrid& grid = session.grid;
    std::unique_ptr<Task> task;
    TrainingState state = read_checkpoint(path, grid);
    grid.agree([&] { check_grid(config, grid.shape().neuron_shards, grid.shape().batch_shards); });
    task = open_task(task_settings(config, session.host_threads()), grid);
    if (grid.rank() == 0 && !origin.data.empty() && task->data_digest() != origin.data)
        fmt::print(stderr, "spikefloss: warning: {} = \"{}\" holds other data than the run was trained on\n",
                   data_place(config.task).key, data_place(config.task).value);
    TrainerOptions options = trainer_options(config, *task);
    const Purpose purpose = command.validation ? Purpose::validation : Purpose::test;
    const Index held_out = task->dataset_size(purpose);
    grid.agree([&] {
        require(command.confusion.empty() || takes_labels(task->loss()), Exit::usage,
                fmt::format("--confusion: task {} of this run has no labels", name_of(config.task.name)),
                "leave --confusion out");
        if (grid.rank() == 0 && !command.confusion.empty())
            require_may_write({"--confusion",
                               command.confusion,
                               "a file of this option",
                               {command.checkpoint},
                               is_confusion,
                               command.overwrite});
        require(!command.validation || held_out > 0, Exit::usage,
                fmt::format("--validation: task {} of this run has no validation data", name_of(config.task.name)),
                "leave --validation out");
    });
    Index& sequences = command.validation ? options.validation_sequences : options.test_sequences;
    if (command.batches > 0 && held_out > 0) sequences = std::min<Index>(held_out, command.batches * options.batch);
    const std::int64_t step = state.progress.step;
    Trainer trainer(*session.backend, grid, *task, options, std::move(state));
    Answers answers;
    const Outcome outcome = trainer.evaluate(purpose, &answers);
    Grouping groups;
    grid.agree([&] {
        if (grid.rank() != 0) return;
        groups = task->groups(purpose);
        if (!command.confusion.empty())
            write_whole_file(command.confusion,
                             confusion_text(step, command.validation ? "validation" : "test", class_names(config.task),
                                            task->outputs(), answers, groups));
    });
    const char* kind = command.validation ? "validation" : held_out > 0 ? "held-out" : "fresh";
    if (grid.rank() != 0) return 0;
    fmt::print(
        "{} (step {}): {} on {} {} sequences: loss {:.6f}{}\n", path, step, name_of(config.task.name), sequences, kind,
        outcome.loss,
        std::isnan(outcome.accuracy) ? r2_text(outcome) : fmt::format(", accuracy {:.2f} %", 100.0 * outcome.accuracy));
    print_groups(groups, answers);
    return 0;
}

}  // namespace spikefloss
