// `train`: from a config to a trained network in a run directory.
#include "commands/launch_checks.hpp"
#include "commands/memory_need.hpp"
#include "commands/options.hpp"
#include "commands/run.hpp"
#include "commands/run_directory.hpp"
#include "commands/run_state.hpp"
#include "commands/session.hpp"
#include "commands/stop_signal.hpp"
#include "core/whole_file.hpp"
#include "io/build_text.hpp"
#include "io/checkpoint.hpp"
#include "io/file_probe.hpp"
#include "io/hdf5_checksum.hpp"
#include "io/nir_network.hpp"
#include "io/progress.hpp"
#include "sequences/open_task.hpp"
#include "watching/serve_token.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>

namespace spikefloss {
namespace {

Config resolved_config(const TrainCommand& command) {
    Config config = config_of(command.config, command.assignments, command.parallel);
    if (!command.run_directory.empty()) config.run.directory = command.run_directory;
    if (config.run.directory.empty())
        config.run.directory = "runs/" + std::filesystem::path(command.config).stem().string();
    check_config(config);
    return config;
}

// "3 neurons", "1 neuron"
std::string counted(Index count, const char* thing) {
    return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

// The sizes of network and task: for the first line of a run, and for --check.
std::string sizes_text(const Config& config, const Task& task, const NetworkShape& shape) {
    return fmt::format("{}, {}, {}, {} a sequence, batch {}", counted(shape.neurons, "neuron"),
                       counted(shape.inputs, "input"), counted(shape.outputs, "output"), counted(task.steps(), "step"),
                       config.train.batch);
}

// The digest of the data of a task. Every rank has read them, perhaps on another machine.
std::string data_digest(const ProcessGrid& grid, const Config& config, const Task& task) {
    const std::string mine = task.data_digest();
    std::string first = first_text(grid.rank() == 0 ? mine : "", grid);
    grid.agree([&] {
        require(mine == first, Exit::bad_file,
                fmt::format("{} reads other data from {} = \"{}\" than rank 0", grid.watchdog()->name_of(grid.rank()),
                            data_place(config.task).key, data_place(config.task).value),
                "give all machines the same files");
    });
    return first;
}

// The digests of the files with weights, on every rank; "" without one.
std::string digests_of_weights(const ProcessGrid& grid, const Config& config) {
    std::string digests;
    grid.agree([&] {
        if (grid.rank() == 0)
            for (const auto& [key, path] : weight_files(config)) digests += weights_digest(path);
    });
    return first_text(digests, grid);
}

// The place of the data may change, the data may not. now: digests of the data that the config names.
void require_same_data(const Config& config, const CheckpointOrigin& now, const CheckpointOrigin& before) {
    const auto compare = [](const std::string& key, const std::string& place, const std::string& mine,
                            const std::string& first) {
        require(mine.empty() || first.empty() || mine == first, Exit::usage,
                fmt::format("{} = \"{}\" holds other data than the run began with: their digest is {}, not {}", key,
                            place, mine, first),
                fmt::format("name the place of the run's data: --set {}=...", key));
    };
    const DataPlace data = data_place(config.task);
    compare(data.key, data.value, now.data, before.data);
    const auto files = weight_files(config);
    for (std::size_t at = 0; at < files.size(); ++at)
        compare(files[at].first, files[at].second, digest_of_file(now.network, at), digest_of_file(before.network, at));
}

// The state from which a resumed run continues; none if it starts from the beginning. origin has the digests of the
// data, and receives the run of the checkpoint.
std::optional<TrainingState> saved_state(const ProcessGrid& grid, const Config& config, ProgressDisplay& display,
                                         CheckpointOrigin& origin) {
    std::vector<std::string> rejected;
    const std::optional<CheckpointInfo> newest = newest_checkpoint(grid, config.run.directory, rejected);
    for (const std::string& reason : rejected) display.say("skipped a damaged checkpoint: " + reason);
    if (newest) {
        CheckpointOrigin before;
        grid.agree([&] {
            before = read_checkpoint_origin(newest->path);
            if (grid.rank() == 0)
                require_own_checkpoint(newest->path, before, config, origin_in(config.run.directory).run);
        });
        // The run uses the network of the checkpoint. The first files may be gone.
        const auto files = weight_files(config);
        std::int64_t there = std::all_of(files.begin(), files.end(), [](const auto& file) {
            std::error_code fault;
            return std::filesystem::is_regular_file(file.second, fault);
        });
        grid.control().broadcast(&there, sizeof there, 0);
        if (there) origin.network = digests_of_weights(grid, config);
        grid.agree([&] { require_same_data(config, origin, before); });
        if (before.data.empty()) before.data = origin.data;
        origin = std::move(before);
        display.say("continuing from " + newest->path);
        return read_checkpoint(newest->path, grid);
    }
    // A new start would delete the records of the run that the damaged checkpoints belong to.
    grid.agree([&] {
        require(rejected.empty(), Exit::bad_file,
                fmt::format("{} holds {}, but none is whole", config.run.directory,
                            counted(static_cast<Index>(rejected.size()), "checkpoint")),
                "restore a whole one from a backup, or start a new run with another --run-dir");
    });
    display.say("no checkpoint in " + config.run.directory + "; starting from the beginning");
    return std::nullopt;
}

// The network of network.file.
TrainingState state_of_file(const ProcessGrid& grid, const Config& config) {
    const Index shards = grid.shape().neuron_shards, shard = grid.neuron_shard();
    TrainingState state;
    grid.agree([&] {
        state.network = to_train(
            config, load_network(config.network.file, nir_rules(config), shards, shard, config.network.transposed),
            shards, shard);
    });
    return state;
}

// Whether any alpha of the whole network, of which this rank holds a part, is not 0.
bool has_current(const ProcessGrid& grid, const HostNetwork& network) {
    std::int64_t nonzero = network.has_current();
    grid.control().all_reduce_sum(&nonzero, Scalar::int64, 1);
    return nonzero > 0;
}

// Opens serve.port before anything is written. The runs of a sweep have one base config, so one port, and often one
// machine. Such a run takes the next free port if the port is in use, and has no page after any other fault.
void open_server(const TrainCommand& command, const ServeConfig& config, std::optional<LiveServer>& server,
                 std::vector<std::string>& warnings) {
    constexpr int next_ports = 99;
    const ServeToken found = token_of(config, command.assignments);
    if (!found.warning.empty()) warnings.push_back(found.warning);
    if (config.port == 0 || command.check) return;
    try {
        server.emplace(config, found.token, command.one_of_many ? next_ports : 0);
        if (server->port() != config.port)
            warnings.push_back(fmt::format("serve.port = {} is in use; this run takes the next free port, {}",
                                           config.port, server->port()));
    } catch (const Error& fault) {
        if (!command.one_of_many) throw;
        const std::string text = fault.what();
        warnings.push_back(text.substr(0, text.find('\n')) + "; this run has no live page");
    }
}

// The name of the run from its directory or checkpoint, or a new name.
std::string name_of_run(const ProcessGrid& grid, const std::string& directory, bool resume, const std::string& known) {
    std::string name = known;
    if (grid.rank() == 0 && name.empty() && resume) name = origin_in(directory).run;
    if (grid.rank() == 0 && name.empty()) {
        std::random_device random;
        name = fmt::format("{:08x}{:08x}", random(), random());
    }
    return first_text(name, grid);
}

// The first line of a session in the log.
std::string session_text(const ProcessGrid& grid) {
    const std::time_t now = std::time(nullptr);
    char date[32] = "";
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S %z", std::localtime(&now));
    return fmt::format("--- {}, {} rank{}\n{}", date, grid.ranks(), grid.ranks() == 1 ? "" : "s", build_text());
}

// Trains until the end or a signal; returns the exit code.
int train_to_the_end(const ProcessGrid& grid, const Config& config, const Task& task,
                     const std::vector<std::string>& names, Trainer& trainer, Run& run, ProgressDisplay& display) {
    const Progress& progress = trainer.progress();
    while (!run.good_enough() &&
           (progress.step < config.train.steps || (config.train.steps == 0 && trainer.flossing_due()))) {
        grid.watchdog()->at(fmt::format("training step {}", progress.step + 1));
        const StepReport report = trainer.advance();
        run.after(report);
        if (!stop_asked(grid)) continue;
        if (!run.saved()) run.checkpoint();
        display.say(fmt::format("stopped by a signal after {} step {}; continue with --resume",
                                report.flossing ? "flossing" : "training",
                                report.flossing ? progress.floss_steps : progress.step));
        return static_cast<int>(Exit::stopped);
    }
    if (run.good_enough())
        display.say(fmt::format("running accuracy {:.2f} % reached", 100.0 * progress.running_accuracy));
    run.finish();
    const FinalTest& end = run.test();
    if (!run.saved()) run.checkpoint();
    const CheckpointOrigin& origin = run.sync();
    grid.agree([&] {
        if (grid.rank() != 0) return;
        if (!end.answers.label.empty())
            write_whole_file(
                config.run.directory + "/confusion.json",
                confusion_text(end.step, "test", names, task.outputs(), end.answers, task.groups(Purpose::test)));
        write_outcome(config.run.directory, {0, "", progress.step, progress.floss_steps, progress.seconds, end.test,
                                             end.validation, progress.best_step, origin.metrics, origin.diagnostics,
                                             config.train.steps, config.train.stop_accuracy});
    });
    std::string text = fmt::format("done: {}, {}, {:.1f} s; test loss {:.4f}", counted(progress.step, "training step"),
                                   counted(progress.floss_steps, "flossing step"), progress.seconds, end.test.loss);
    text += std::isnan(end.test.accuracy) ? r2_text(end.test) : ", " + score_text("test", end.test);
    if (progress.best_step >= 0)
        text += fmt::format(" with the network of step {}, chosen by its {}", end.step,
                            score_text("validation", *end.validation));
    display.say(text);
    return 0;
}

}  // namespace

int train(const ProcessGrid& everyone, const TrainCommand& command) {
    Config config;
    everyone.agree([&] {
        check_slurm_tasks(everyone);
        config = resolved_config(command);
        listen_for_stop(config.run.stop_signals);
    });
    if (command.print_config) {
        everyone.agree([&] {
            if (everyone.rank() != 0) return;
            const bool written = std::fputs(to_toml(config, true).c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
            require(written, Exit::storage, "cannot write the config to standard output", "make room where it goes");
        });
        return 0;
    }
    outlive_readers();
    const Session session(everyone, parallel_choice(config), config.run.sums);
    const ProcessGrid& grid = session.grid;
    std::unique_ptr<Task> task;
    grid.agree([&] { check_grid(config, grid.shape().neuron_shards, grid.shape().batch_shards); });
    task = open_task(task_settings(config, session.host_threads()), grid);
    ProgressDisplay display(grid.rank() != 0, config.train.steps);
    std::optional<LiveServer> server;
    std::vector<std::string> warnings;
    grid.agree([&] {
        if (grid.rank() == 0) open_server(command, config.serve, server, warnings);
    });

    RunDirectory directory;
    const std::string log = config.run.directory + "/log.txt";
    if (!command.check) {
        directory = check_run_directory(grid, config.run.directory, config, command.resume);
        if (command.resume) display.log_to(log, session_text(grid));
    }
    CheckpointOrigin origin;
    origin.data = data_digest(grid, config, *task);
    std::optional<TrainingState> start;
    if (command.resume && !command.check) start = saved_state(grid, config, display, origin);
    const bool begun = start.has_value();
    // A random network may not fit into memory. Its sizes are known before its values are drawn.
    if (!begun) {
        require_readable_networks(config, grid);
        if (!config.network.file.empty()) start = state_of_file(grid, config);
        origin.network = digests_of_weights(grid, config);
    }
    const InitialNetwork settings = initial_settings(config, *task);
    const NetworkShape shape = start ? start->network.layout.shape() : settings.shape;
    const Index shards = grid.shape().neuron_shards, shard = grid.neuron_shard();
    HostNetwork sizes;
    grid.agree([&] {
        sizes =
            start ? blank(start->network) : to_train(config, planned_network(settings, shards, shard), shards, shard);
    });
    sizes.planned_current = start ? has_current(grid, start->network) : settings.has_current();
    grid.agree([&] { check_network(config, *task, sizes); });
    for (const std::string& warning : config_warnings(config, shape.neurons, sizes.planned_current))
        warnings.push_back(warning);
    for (const std::string& remark : task->remarks()) warnings.push_back(remark);
    if (start && !begun)
        for (const std::string& warning : file_warnings(config, start->network.model)) warnings.push_back(warning);
    if (start && !begun)
        if (const Index late = nir_origin(start->network, config.network.file).delay; late > 0)
            warnings.push_back(
                fmt::format("the readout of network.file = \"{}\" is {} step{} later than that of its "
                            "NIR graph; the data must allow for it",
                            config.network.file, late, late == 1 ? "" : "s"));
    if (command.check) {
        if (!start)
            grid.agree([&] {
                if (grid.rank() == 0) try_given_weights(settings);
            });
        for (const std::string& warning : warnings) display.say("warning: " + warning);
        display.say(fmt::format("{} is fine: {}: {}", command.config, name_of(config.task.name),
                                sizes_text(config, *task, shape)));
        return 0;
    }
    std::vector<std::string> names;  // of the classes
    grid.agree([&] {
        if (grid.rank() == 0) names = class_names(config.task);
    });
    const MemoryNeed need =
        memory_need(*session.backend, grid.shape(), grid.rank(), {config, *task, sizes}, session.memory_share());
    require_memory(session, need);
    if (!start) {
        start.emplace();
        grid.agree([&] { start->network = initial_network(settings, std::move(sizes)); });
    }
    origin.run = name_of_run(grid, config.run.directory, command.resume, origin.run);
    const std::string devices = session.devices_text(), record = session.record(origin, need.passes);
    // The directory is made only now, so that a run that cannot start leaves none.
    start_run_directory(grid, directory, config, record);
    display.log_to(log, session_text(grid));
    if (!directory.changed.empty())
        display.say("the config differs from that of the last session:" + directory.changed);
    display.say(fmt::format("{}: {}, on a {}x{} grid with {} a rank; records in {}", name_of(config.task.name),
                            sizes_text(config, *task, shape), grid.shape().neuron_shards, grid.shape().batch_shards,
                            counted(session.threads, "thread"), config.run.directory));
    display.say(devices);
    display.say(memory_line(need));
    display.say("passes: " + passes_text(need));
    for (const std::string& warning : warnings) display.say("warning: " + warning);
    if (server) display.say("live at " + server->address());
    std::optional<Trainer> trainer;
    std::optional<Run> run;
    try {
        session.backend->reserve(need.arrays);
        session.backend->reserve_scratch(need.scratch);
        trainer.emplace(*session.backend, grid, *task, trainer_options(config, *task), std::move(*start));
        run.emplace(grid, config, *trainer, display, server ? &*server : nullptr, begun, origin);
        return train_to_the_end(grid, config, *task, names, *trainer, *run, display);
    } catch (const std::exception& fault) {
        // Any rank may write the message.
        if (*fault.what()) {
            std::ofstream(log, std::ios::app) << "error: " << fault.what() << std::endl;
            record_failure(config.run.directory, fault);
        }
        // A checkpoint is never changed after it is written.
        if (run) display.say(run->saved_text());
        throw;
    }
}

}  // namespace spikefloss
