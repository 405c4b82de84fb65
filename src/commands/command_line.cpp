// The command line: every option with its help, and the errors for options that do not fit.
#include "commands/commands.hpp"
#include "commands/completion.hpp"
#include "commands/data_summary.hpp"
#include "commands/launch_checks.hpp"
#include "config/nearest.hpp"
#include "config/schema.hpp"
#include "io/build_text.hpp"

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>

namespace spikefloss {
namespace {

constexpr const char* exit_codes = R"(Exit codes (more in docs/exit_codes.md):
   0  done
   2  bad input: command line, config or file
   3  not finite: the loss or the state blew up
  75  a rank is lost or stuck (the message names it, the collective and the step); continue with --resume
  85  stopped by a signal after a checkpoint; continue with --resume
   1  anything else: a full disk, a defect
Signals to `train`: USR1, TERM, HUP (run.stop_signals) and INT end the run after the present step, with a checkpoint;
a second TERM or INT ends it at once.)";

// The check of a whole number; its error shows the range.
CLI::Range whole_number(std::int64_t least) { return {least, std::int64_t{1'000'000'000}}; }

// Adds an option that means the same as a config key. It accepts the same values as the key; its error shows the key's
// range.
template <class T>
void add_keyed(CLI::App& command, const std::string& option, T& value, const std::string& key,
               const std::string& help) {
    using Type = typename decltype(std::optional(value))::value_type;
    const auto find = [key](Config& config) {
        for (const Key& one : keys_of(config))
            if (one.path() == key) return one;
        throw Error(Exit::internal, "there is no key " + key);
    };
    const auto take = [=, &value](const std::string& text) {
        Config config;
        set_key_text(key, text, fmt::format("{} {}: ", option, text), config);
        value = *std::get<Type*>(find(config).value);
    };
    Config config;
    std::string form = CLI::detail::type_name<std::conditional_t<std::is_enum_v<Type>, std::string, Type>>();
    if (HasNames<Type>)
        form += fmt::format(":{{{}}}", fmt::join(find(config).choices, ","));  // the completion reads it
    command.add_option_function<std::string>(option, take, help)->type_name(form);
}

// Refuses an empty value of any option: a script that writes --run-dir "$OUT" without OUT would use the default.
void refuse_empty_values(CLI::App& app) {
    for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; }))
        for (CLI::Option* option : command->get_options())
            if (option->get_items_expected_max() > 0)
                option->check([name = option->get_name()](const std::string& text) {
                    require(!text.empty(), Exit::usage, fmt::format("the value of {} is empty", name),
                            "give a value, or leave the option out; in a script, is a variable unset?");
                    return std::string();
                });
}

void add_parallel_options(CLI::App& command, ParallelChoice& choice) {
    command.add_option("--grid", choice.grid, "process grid PxQ: P neuron shards x Q batch shards (default 1 x ranks)");
    add_keyed(command, "--threads", choice.threads, "parallel.threads",
              "OpenMP threads per rank (default: cores / ranks)");
    add_keyed(command, "--backend", choice.backend, "parallel.backend",
              "auto (default: cuda where there is a GPU), cpu or cuda");
    add_keyed(command, "--comm", choice.comm, "parallel.comm",
              "between ranks: auto (default), mpi (cpu), nccl (cuda), staged (cuda; ranks may share a GPU)");
    add_keyed(command, "--precision", choice.precision, "run.precision",
              "of products on a GPU: fp32 (default), tf32 or bf16");
    add_keyed(command, "--watchdog", choice.watchdog_seconds, "watchdog.seconds",
              "seconds that a rank waits for the others before the job ends with code 75 (default 600; 0: no limit)");
}

void add_assignments(CLI::App& command, std::vector<std::string>& assignments) {
    command.add_option("--set", assignments, "section.key=value, overrides the file; may be repeated")
        ->take_all()
        ->allow_extra_args(false);
}

void add_overwrite(CLI::App& command, bool& overwrite, const char* kind) {
    command.add_flag("--overwrite", overwrite, fmt::format("replace the file even if it is not {}", kind));
}

// What a NIR file does not say, and the surrogate of any file.
void add_nir_options(CLI::App& command, NirRules& nir) {
    add_keyed(command, "--dt", nir.dt, "network.nir_dt",
              "of a NIR file (docs/nir.md): its time step, in the unit of its time constants (default 1e-4)");
    add_keyed(command, "--reset", nir.reset, "network.nir_reset", "of a NIR file: zero (default) or subtract");
    add_keyed(command, "--integration", nir.integration, "network.nir_integration",
              "of a NIR file: decays of euler (default) or exponential");
    add_keyed(command, "--order", nir.order, "network.nir_order",
              "of a NIR file: the current that reaches the membrane is the new (default) or the old one");
    add_keyed(command, "--surrogate", nir.surrogate, "network.surrogate",
              "surrogate derivative (default: that of the network; of a NIR file fast_sigmoid)");
    add_keyed(command, "--sharpness", nir.sharpness, "network.sharpness",
              "sharpness of the surrogate derivative (default: that of the network; of a NIR file 5)");
    command
        .add_option("--count-steps", nir.count_steps,
                    "of a NIR file: steps T that count for the loss; the readout is taken times T, so that its mean "
                    "over them is a sum (spike counts)")
        ->check(whole_number(1));
}

// Options for the place of the results, in this program and in others.
constexpr std::array places = {"run_dir", "output", "out", "out_dir", "output_dir", "dir", "directory"};

// What to write instead of an option that `command` does not have, but that is the name of its file, of the place of
// its results, or of config keys; otherwise "".
std::string instead_of(const std::string& option, const CLI::App& command) {
    std::string name = option.substr(2);
    std::replace(name.begin(), name.end(), '-', '_');
    const bool place = std::find(places.begin(), places.end(), name) != places.end();
    bool sets_keys = false;
    for (const CLI::Option* known : command.get_options()) {
        if (known->get_positional() && known->get_name(true) == name)
            return fmt::format("give the {} without {};", name, option);
        if (place && (known->check_lname("run-dir") || known->check_lname("output")))
            return fmt::format("did you mean {}?", known->get_name());
        sets_keys |= known->check_lname("set");
    }
    Config config;
    std::vector<std::string> settings;
    for (const Key& key : keys_of(config))
        if (sets_keys && key.name == name) settings.push_back(fmt::format("--set {}=VALUE", key.path()));
    return settings.empty() ? "" : fmt::format("did you mean {}?", fmt::join(settings, " or "));
}

// The error for arguments that no option of the command takes. A mistyped option gets the nearest one.
Error unexpected(const CLI::App& app, const CLI::ExtrasError& fault) {
    const std::vector<CLI::App*> commands = app.get_subcommands();
    const std::string name = commands.empty() ? "" : " " + commands.front()->get_name();
    std::vector<std::string> known;
    const auto add_options = [&](const CLI::App& of) {
        for (const CLI::Option* option : of.get_options())
            for (const std::string& long_name : option->get_lnames()) known.push_back("--" + long_name);
    };
    add_options(app);
    if (!commands.empty()) add_options(*commands.front());
    for (const std::string& argument : app.remaining(true))
        if (argument.starts_with("--")) {
            const std::string option = argument.substr(0, argument.find('='));
            std::string remedy = commands.empty() ? "" : instead_of(option, *commands.front());
            const std::string nearest = nearest_name(option, known);
            if (remedy.empty() && is_near(option.substr(2), nearest.substr(2)))
                remedy = fmt::format("did you mean {}?", nearest);
            return {Exit::usage, fmt::format("spikefloss{} has no option {}", name, option),
                    fmt::format("{}{}spikefloss{} --help lists all options", remedy, remedy.empty() ? "" : " ", name)};
        }
    return {Exit::usage, fault.what(), fmt::format("see spikefloss{} --help", name)};
}

// The files of a network and its sequences.
void add_input_options(CLI::App& command, FileCommand& file) {
    command.add_option("--network", file.network, "HDF5 file with /network (docs/files.md), or a NIR file (NAME.nir)");
    command.add_option("--input", file.input, "HDF5 file with /sequences; may be the same file");
    command.add_flag("--transposed", file.transposed,
                     "the axes of all arrays are reversed, as Julia, MATLAB and R write them (docs/files.md)");
    add_nir_options(command, file.nir);
}

// For the commands that compare a readout with targets.
void add_pad(CLI::App& command, FileCommand& file) {
    command
        .add_option("--pad", file.pad,
                    "empty steps to append to the input; mask and targets move by as many (default: by how much a "
                    "network from a NIR file is late, unless the mask leaves out as many first steps)")
        ->check(whole_number(0));
}

void add_loss(CLI::App& command, FileCommand& file) {
    add_keyed(command, "--loss", file.loss, "train.loss",
              "of labels or targets, as train.loss (default auto: cross_entropy_mean of label, binary_cross_entropy of "
              "target)");
}

void add_file_options(CLI::App& command, FileCommand& file) {
    add_parallel_options(command, file.parallel);
    add_input_options(command, file);
    for (const char* option : {"--network", "--input"}) command.get_option(option)->required();
    command.add_option("--output", file.output, "HDF5 file to write")->required();
    add_overwrite(command, file.overwrite, "a result of this command");
    add_keyed(command, "--exponents", file.exponents, "flossing.exponents",
              "number k of exponents (default: the columns of q0, else 16)");
    add_keyed(command, "--warmup", file.warmup, "flossing.warmup", "steps at the start that do not count (default 0)");
    add_keyed(command, "--qr-interval", file.qr_interval, "flossing.qr_interval",
              "steps between QRs (default 0: chosen during the pass)");
    add_keyed(command, "--jacobian-reset", file.jacobian_reset, "flossing.jacobian_reset",
              "reset factor in the tangent map: detached (default) or ignored");
    add_keyed(command, "--seed", file.seed, "run.seed",
              "seed of random starting bases, used if q0 does not have k columns (default 1)");
    add_keyed(command, "--sums", file.sums, "run.sums",
              "float64 (default): the same result on every grid; float32: faster");
}

// Target exponents, "0" or "0,0.1": a list with at least one number.
std::vector<double> targets_of(const std::string& text) {
    Config config;
    const std::string where = fmt::format("--target '{}': ", text);
    set_key_text("flossing.target", text, where, config);
    require(!config.flossing.target.empty(), Exit::usage, where + "there is no number",
            "give one number for all exponents, or one for each, as in --target 0,-0.1");
    return config.flossing.target;
}

// CLI11 reports only that a command is missing. This error names the unknown word and the known commands.
void require_command(const CLI::App& app, int argc, char** argv) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
    const std::string known =
        fmt::format("the commands are {}; spikefloss --help describes them", fmt::join(names, ", "));
    const std::string first = argc > 1 ? argv[1] : "";
    require(!first.empty(), Exit::usage, "no command was given", known);
    if (first[0] == '-' || std::find(names.begin(), names.end(), first) != names.end()) return;
    throw Error(Exit::usage, fmt::format("there is no command '{}'", first), known);
}

// For a command whose result is its printed text. Text that cannot be written is an error. Collective.
int printed(const ProcessGrid& everyone, const std::function<int()>& command) {
    int code = 0;
    std::string reason;
    try {
        code = command();
    } catch (...) {  // fmt::print throws; with several ranks, the error already goes to all of them
        if (!std::ferror(stdout) || everyone.ranks() > 1) throw;
        reason = std::strerror(errno);
    }
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        if (std::fflush(stdout) != 0) reason = std::strerror(errno);
        require(!std::ferror(stdout), Exit::storage,
                "cannot write to standard output" + (reason.empty() ? "" : ": " + reason),
                "free space at its destination, then repeat the command");
    });
    return code;
}

}  // namespace

int run_command_line(int argc, char** argv) {
    int ranks = 1;
    if (mpi_runs()) MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const ProcessGrid everyone(MPI_COMM_WORLD, {1, ranks});
    const bool first = everyone.rank() == 0;
    CLI::App app{
        "Trains recurrent spiking networks with surrogate gradients, measures their surrogate Lyapunov spectra, and "
        "flosses them."};
    app.require_subcommand(1);
    app.name("spikefloss");
    app.footer(exit_codes);
    app.set_help_all_flag("--help-all", "print the help of all commands and exit");
    app.set_version_flag("--version", version_line());

    TrainCommand train_command;
    CLI::App& train_app = *app.add_subcommand("train", "train the network of a config file");
    train_app.footer(exit_codes);
    add_parallel_options(train_app, train_command.parallel);
    train_app.add_option("config", train_command.config, "TOML file (docs/config.md)")->required();
    add_assignments(train_app, train_command.assignments);
    train_app.add_option("--run-dir", train_command.run_directory,
                         "where records and checkpoints go (default runs/<config name>)");
    train_app.add_flag("--resume", train_command.resume,
                       "continue from the newest whole checkpoint of the run directory");
    train_app.add_flag("--print-config", train_command.print_config, "print the resolved config and stop");
    train_app.add_flag("--check", train_command.check, "check the config and stop");

    EvalCommand eval_command;
    FileCommand file_command;
    CLI::App& eval_app = *app.add_subcommand(
        "eval", "loss and accuracy of a checkpoint on fresh or held-out data, or of a network file on sequences");
    add_parallel_options(eval_app, eval_command.parallel);
    CLI::Option& checkpoint =
        *eval_app.add_option("checkpoint", eval_command.checkpoint, "checkpoint file, or a run directory (its newest)");
    add_keyed(eval_app, "--batches", eval_command.batches, "train.test_batches",
              "number of batches of train.batch sequences (default: train.test_batches of fresh data, or the whole "
              "held-out set)");
    eval_app.add_flag("--best", eval_command.best,
                      "the network of the run directory that was best on validation data (train.keep_best)");
    eval_app.add_flag("--validation", eval_command.validation, "on the validation data instead of the test data");
    eval_app.add_option("--confusion", eval_command.confusion,
                        "JSON file to write: the numbers of sequences by label and by named class (docs/files.md)");
    eval_app
        .add_option(
            "--set", eval_command.assignments,
            "section.key=value; only keys that a resumed run may change, such as task.images if the data have moved")
        ->take_all()
        ->allow_extra_args(false);
    add_input_options(eval_app, file_command);
    add_pad(eval_app, file_command);
    add_loss(eval_app, file_command);
    CLI::Option &of_network = *eval_app.get_option("--network"), &of_input = *eval_app.get_option("--input");
    of_network.needs(&of_input);
    of_input.needs(&of_network);
    eval_app.add_option("--output", file_command.output,
                        "with --network: HDF5 file to write, with all spikes and readouts");
    add_overwrite(eval_app, eval_command.overwrite, "a result of this command");
    for (const char* option : {"checkpoint", "--batches", "--best", "--validation", "--confusion", "--set"})
        eval_app.get_option(option)->excludes(&of_network);
    for (const char* option : {"--transposed", "--dt", "--reset", "--integration", "--order", "--surrogate",
                               "--sharpness", "--count-steps", "--pad", "--loss", "--output"})
        eval_app.get_option(option)->needs(&of_network);

    InfoCommand info_command;
    CLI::App& info_app = *app.add_subcommand("info", "version, build, dependencies, devices, ranks and grid");
    add_parallel_options(info_app, info_command.parallel);
    info_app.add_option(
        "--plan", info_command.plan,
        "a config (TOML): print the memory that a rank of --grid needs, and the data it sends; the ranks of the grid "
        "need not exist");
    info_app
        .add_flag(
            "--time", info_command.time,
            "with --plan: also take a few steps of the rank's work here, and print the time of a step and of the run")
        ->needs("--plan");
    add_assignments(info_app, info_command.assignments);

    ReportCommand report_command;
    CLI::App& report_app =
        *app.add_subcommand("report", "a finished or half-finished run as one HTML file: curves, spectrum, settings");
    report_app.add_option("run_directory", report_command.directory, "run directory of a training")->required();
    report_app.add_option("-o,--output", report_command.output, "file to write (default RUN_DIR/report.html)");
    add_overwrite(report_app, report_command.overwrite, "a report");

    DataCommand data_command;
    CLI::App& data_app = *app.add_subcommand("data", "what is in a file of sequences (task.file): numbers, pictures");
    data_app.add_option("file", data_command.file, "HDF5 file with events or a dense x (docs/data.md)")->required();
    data_app.add_option("--html", data_command.html,
                        "file to write: one sequence of each class and the rate of each channel, as one HTML file");
    add_overwrite(data_app, data_command.overwrite, "a page of this command");
    add_keyed(data_app, "--dt", data_command.dt, "network.dt", "length of a step in ms (default 1)");
    add_keyed(data_app, "--time-unit", data_command.time_unit, "task.time_unit",
              "unit of the times of events (default auto: seconds, if they can be)");

    SweepCommand sweep_command;
    CLI::App& sweep_app = *app.add_subcommand(
        "sweep", "list the runs of a sweep file with their states, or train one of them (launch/sweep trains all)");
    add_parallel_options(sweep_app, sweep_command.parallel);
    sweep_app.add_option("file", sweep_command.file, "sweep file, TOML (docs/sweep.md)")->required();
    sweep_app.add_option("--run-dir", sweep_command.run_directory,
                         "where the directories of its runs go (default runs/<name of the sweep file>)");
    CLI::Option& sweep_run = *sweep_app.add_option(
        "--run", sweep_command.run,
        "train a run, or continue it, by its number in the list or by its name; do nothing if it is done");
    sweep_app.add_flag("--retry", sweep_command.retry, "with --run: also train a run that failed or diverged before")
        ->needs(&sweep_run);
    sweep_app.add_flag("--print-config", sweep_command.print_config, "with --run: print its config and stop")
        ->needs(&sweep_run);
    sweep_app.add_flag("--check", sweep_command.check, "with --run: check its config and stop")->needs(&sweep_run);
    sweep_app.add_flag("--count", sweep_command.count, "print the number of runs")->excludes(&sweep_run);

    CollectCommand collect_command;
    CLI::App& collect_app = *app.add_subcommand(
        "collect", "a finished or half-finished sweep as one table (CSV), and a summary over its seeds");
    collect_app.add_option("directory", collect_command.directory, "directory of a sweep, such as runs/delayed_xor")
        ->required();
    collect_app.add_option("-o,--output", collect_command.output, "file to write (default DIR/table.csv)");
    add_overwrite(collect_app, collect_command.overwrite, "a table of a sweep");

    CLI::App& spectrum_app = *app.add_subcommand("spectrum", "surrogate Lyapunov spectrum of a network file");
    add_file_options(spectrum_app, file_command);

    CLI::App& gradients_app =
        *app.add_subcommand("gradients", "gradient of the task loss or of the flossing penalty of a network file");
    add_file_options(gradients_app, file_command);
    add_pad(gradients_app, file_command);
    gradients_app.add_option("--penalty", file_command.penalty, "task or floss")
        ->check(CLI::IsMember({"task", "floss"}))
        ->required();
    add_loss(gradients_app, file_command);
    gradients_app.add_option_function<std::string>(
        "--target", [&](const std::string& text) { file_command.target = targets_of(text); },
        "floss: target exponents per step, one or one for each, with commas between");
    gradients_app.add_flag("--direct", file_command.direct, "floss: leave out the gradient through the trajectory");

    ConvertCommand convert_command;
    CLI::App& convert_app = *app.add_subcommand("convert", "a network from a NIR file to HDF5, or the inverse");
    convert_app
        .add_option("in", convert_command.input, "NAME.nir, or an HDF5 file with /network, such as a checkpoint")
        ->required();
    convert_app.add_option("out", convert_command.output, "file to write: NAME.nir if the other is not, else HDF5")
        ->required();
    add_nir_options(convert_app, convert_command.nir);
    add_overwrite(convert_app, convert_command.overwrite, "a network that this command wrote");

    CLI::App& version_app = *app.add_subcommand("version", "version and commit on one line, as --version");
    if (argc == 2 && std::string_view(argv[1]) == "--bash-completion") {  // for the installation: not in --help
        if (first) fmt::print("{}", bash_completion(app));
        return 0;
    }

    refuse_empty_values(app);
    bool shown = false;
    everyone.agree([&] {
        require_command(app, argc, argv);
        try {
            app.parse(argc, argv);
        } catch (const CLI::Success& asked) {  // --help, --version
            shown = true;
            if (first) app.exit(asked);
        } catch (const CLI::ExtrasError& fault) {
            throw unexpected(app, fault);
        } catch (const CLI::ParseError& fault) {
            throw Error(Exit::usage, fault.what(), "see spikefloss --help, or spikefloss COMMAND --help");
        }
        require(!eval_app.parsed() || checkpoint.count() + of_network.count() > 0, Exit::usage,
                "eval needs a checkpoint, or --network and --input",
                "spikefloss eval RUN_DIR, or spikefloss eval --network FILE --input SEQUENCES.h5");
    });
    if (shown) return printed(everyone, [] { return 0; });
    if (version_app.parsed())
        return printed(everyone, [&] {
            if (first) fmt::print("{}\n", version_line());
            return 0;
        });
    if (!info_app.parsed() && !data_app.parsed() && !report_app.parsed() && !collect_app.parsed())
        everyone.agree(check_launcher);
    if (train_app.parsed()) return train(everyone, train_command);
    if (!sweep_command.run.empty()) return sweep(everyone, sweep_command);
    return printed(everyone, [&] {
        if (eval_app.parsed()) {
            file_command.parallel = eval_command.parallel;
            if (eval_command.overwrite) file_command.overwrite = true;
            return of_network.count() > 0 ? evaluate_file(everyone, file_command) : evaluate(everyone, eval_command);
        }
        if (convert_app.parsed()) return convert(everyone, convert_command);
        if (info_app.parsed()) return info(everyone, info_command);
        if (data_app.parsed()) return data(everyone, data_command);
        if (report_app.parsed()) return report(everyone, report_command);
        if (sweep_app.parsed()) return sweep(everyone, sweep_command);
        if (collect_app.parsed()) return collect(everyone, collect_command);
        if (spectrum_app.parsed()) return spectrum(everyone, file_command);
        return gradients(everyone, file_command);
    });
}

}  // namespace spikefloss
