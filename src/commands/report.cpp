// `report`: a run directory as one HTML file.
#include "commands/commands.hpp"
#include "commands/run_state.hpp"
#include "core/whole_file.hpp"
#include "watching/page.hpp"
#include "watching/run_records.hpp"

#include <filesystem>

namespace spikefloss {

int report(const ProcessGrid& everyone, const ReportCommand& command) {
    const std::string output = command.output.empty() ? command.directory + "/report.html" : command.output;
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        require(has_charts(), Exit::usage, why_no_charts, what_gives_charts);
        std::error_code code;
        require(std::filesystem::is_directory(command.directory, code), Exit::bad_file,
                fmt::format("there is no run directory {}", command.directory),
                "name the directory of a run, as given by --run-dir or run.directory");
        require_may_write(
            {"--output", output, "a report of spikefloss", {command.directory}, is_page, command.overwrite});
        RunRecords records(command.directory);
        records.read();
        const std::string damage = records.damage();
        require(records.count() > 0, Exit::bad_file,
                fmt::format("{} holds no records of a run{}{}", command.directory, damage.empty() ? "" : "; ", damage),
                "name the directory of a run that has written its first record (train.report_every)");
        write_whole_file(output, page_text(records.json(nullptr)));
        if (!damage.empty()) fmt::print(stderr, "spikefloss: warning: {}\n", damage);
        const std::optional<RunOutcome> outcome = read_outcome(command.directory);
        const std::string missing = outcome ? missing_records(command.directory, *outcome) : "";
        if (!missing.empty()) fmt::print(stderr, "spikefloss: warning: {}\n", missing);
        fmt::print("{}\n", output);
    });
    return 0;
}

}  // namespace spikefloss
