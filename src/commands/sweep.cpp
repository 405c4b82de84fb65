// `sweep`: lists the runs of a sweep file, or trains one of them.
#include "config/sweep.hpp"
#include "commands/options.hpp"
#include "commands/run_state.hpp"
#include "core/whole_file.hpp"

#include <fmt/ranges.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <map>

namespace spikefloss {
namespace {

std::string directory_of(const SweepCommand& command, const Sweep& sweep) {
    return command.run_directory.empty() ? "runs/" + sweep.name : command.run_directory;
}

void list(const SweepCommand& command, const Sweep& sweep) {
    const std::vector<SweepPoint> points = points_of(sweep);
    const std::string directory = directory_of(command, sweep);
    std::map<std::string, int> count;
    fmt::print("run  state     directory\n");
    for (std::size_t i = 0; i < points.size(); ++i) {
        const std::string place = directory + "/" + points[i].name;
        const RunStatus status = status_of(place, config_of(sweep, points[i]));
        ++count[name_of(status.state)];
        fmt::print("{:<4} {:<9} {}\n", i, name_of(status.state), place);
    }
    std::string counts;
    for (const auto& [state, number] : count)
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", number, state);
    fmt::print("\n{} runs: {}\n", points.size(), counts);
    const std::string arguments =
        command.file + (command.run_directory.empty() ? "" : fmt::format(" --run-dir {}", command.run_directory));
    fmt::print(
        "  here:         launch/sweep {0}\n"
        "  with Slurm:   sbatch --array=0-{1} launch/slurm/sweep.sbatch {0}\n"
        "  one of them:  spikefloss sweep {0} --run 0\n"
        "  the results:  spikefloss collect {2}\n",
        arguments, points.size() - 1, directory);
}

// Writes all that `collect` needs, so that later changes of the files do not matter. Several runs may start at once:
// each writes the whole file, and the last one stays.
void write_record(const std::string& directory, const Sweep& sweep) {
    const std::string record = directory + "/sweep.json", text = sweep_to_json(sweep);
    std::ifstream file(record, std::ios::binary);
    if (file && std::string{std::istreambuf_iterator<char>(file), {}} == text) return;
    make_folder(directory);
    write_whole_file(record, text);
}

// The run of this number or name. If the file gets another variant or value, numbers change, names do not.
SweepPoint point_of(const SweepCommand& command, const Sweep& sweep) {
    const std::vector<SweepPoint> points = points_of(sweep);
    std::size_t number = points.size();
    const char* end = command.run.data() + command.run.size();
    if (const auto [read, error] = std::from_chars(command.run.data(), end, number);
        read != end || error != std::errc{})
        for (number = 0; number < points.size() && points[number].name != command.run;) ++number;
    require(number < points.size(), Exit::usage,
            fmt::format("there is no run {}: {} has the runs 0 to {}", command.run, command.file, points.size() - 1),
            fmt::format("spikefloss sweep {} lists them with their names", command.file));
    return points[number];
}

int run_point(const ProcessGrid& everyone, const SweepCommand& command, const Sweep& sweep) {
    SweepPoint point;
    everyone.agree([&] { point = point_of(command, sweep); });
    const std::string directory = directory_of(command, sweep) + "/" + point.name;
    TrainCommand training{command.parallel,
                          sweep.base_path,
                          point.assignments,
                          directory,
                          false,
                          command.print_config,
                          command.check,
                          true};
    if (command.print_config || command.check) return train(everyone, training);

    // Only rank 0 reads the state, so that all ranks do the same even if they see the file system differently.
    int state = 0;
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        const RunStatus status = status_of(directory, config_of(sweep, point));
        state = static_cast<int>(status.state);
        require(status.state != RunState::differs, Exit::usage,
                fmt::format("{} holds a run of another config: {}", directory, status.reason),
                "collect the existing results and choose another --run-dir for the changed sweep, or remove that run");
        const bool ended = status.state == RunState::failed || status.state == RunState::diverged;
        require(!ended || command.retry, Exit::usage,
                fmt::format("{} has {} before: {}", directory, name_of(status.state), status.reason),
                "fix the cause, then --retry continues from its last checkpoint; remove the directory to start again");
        if (status.state == RunState::done) fmt::print("{} is done already\n", directory);
        if (status.state != RunState::done) write_record(directory_of(command, sweep), sweep);
    });
    everyone.control().broadcast(&state, sizeof state, 0);
    if (static_cast<RunState>(state) == RunState::done) return 0;
    training.resume = static_cast<RunState>(state) != RunState::fresh;
    return train(everyone, training);
}

}  // namespace

int sweep(const ProcessGrid& everyone, const SweepCommand& command) {
    Sweep file;
    everyone.agree([&] {
        file = read_sweep(command.file);
        // Options have the same effect as keys in the base config.
        file.base = config_of(file.base_path, {}, command.parallel);
    });
    if (!command.run.empty()) return run_point(everyone, command, file);
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        if (command.count)
            fmt::print("{}\n", points_of(file).size());
        else
            list(command, file);
    });
    return 0;
}

}  // namespace spikefloss
