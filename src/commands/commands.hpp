// The subcommands of the program, each a function from its command-line options to an exit code. All are collective
// over MPI_COMM_WORLD.
#pragma once

#include "core/choices.hpp"
#include "core/error.hpp"
#include "io/nir_network.hpp"
#include "parallel/process_grid.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spikefloss {

// Options of every command. What is not given comes from the config, or is its default.
struct ParallelChoice {
    std::string grid = "";     // PxQ; "": not given
    std::int64_t threads = 0;  // per rank; 0: not given
    std::optional<BackendKind> backend;
    std::optional<CommKind> comm;
    std::optional<Precision> precision;
    std::optional<double> watchdog_seconds;
};

struct TrainCommand {
    ParallelChoice parallel;
    std::string config;
    std::vector<std::string> assignments;  // --set section.key=value
    std::string run_directory;             // "": from the config, or runs/<name of the config>
    bool resume = false, print_config = false, check = false;
    bool one_of_many = false;  // a run of a sweep: another run may use serve.port
};

struct EvalCommand {
    ParallelChoice parallel;
    std::string checkpoint;                // a file, or a run directory
    std::vector<std::string> assignments;  // --set section.key=value, of keys that may change
    std::int64_t batches = 0;              // 0: from the config
    bool best = false;                     // the best network of a run directory, not the newest
    bool validation = false;               // on validation data, not on test data
    std::string confusion;                 // file to write; "": none
    bool overwrite = false;                // any file, not only such a one
};

struct ConvertCommand {
    std::string input, output;
    NirRules nir;
    bool overwrite = false;  // any file, not only a network that this command wrote
};

struct InfoCommand {
    ParallelChoice parallel;
    std::string plan;                      // a config; "": print no plan
    std::vector<std::string> assignments;  // --set section.key=value
    bool time = false;                     // also take a few steps of the plan and predict the time of the run
};

struct ReportCommand {
    std::string directory, output;  // "": report.html in the directory
    bool overwrite = false;         // any file, not only a report
};

struct SweepCommand {
    ParallelChoice parallel;
    std::string file;
    std::string run_directory;  // of all its runs; "": runs/<name of the file>
    std::string run;            // which of its runs, a number of the list or a name; "": list them
    bool count = false, retry = false, print_config = false, check = false;
};

struct CollectCommand {
    std::string directory, output;  // "": table.csv in the directory
    bool overwrite = false;         // any file, not only a table
};

// spectrum, gradients and eval --network
struct FileCommand {
    ParallelChoice parallel;
    std::string network, input, output;
    bool overwrite = false;           // any file, not only a result of the same command
    bool transposed = false;          // the axes of all arrays are reversed
    NirRules nir;                     // of a NIR network
    std::optional<std::int64_t> pad;  // empty steps to append; none: the delay of the network
    std::int64_t exponents = 0;       // 0: as many as q0 has columns, else min(16, D)
    std::int64_t warmup = 0, qr_interval = 0;
    JacobianReset jacobian_reset = JacobianReset::detached;
    std::int64_t seed = 1;
    Sums sums = Sums::float64;
    // gradients only
    std::string penalty = "task";  // task | floss
    LossKind loss = LossKind::automatic;
    std::vector<double> target = {0.0};
    bool direct = false;  // floss: without the gradient through the trajectory
};

// everyone: all ranks of MPI_COMM_WORLD, made once.
int train(const ProcessGrid& everyone, const TrainCommand& command);
int evaluate(const ProcessGrid& everyone, const EvalCommand& command);
int info(const ProcessGrid& everyone, const InfoCommand& command);
int report(const ProcessGrid& everyone, const ReportCommand& command);
int sweep(const ProcessGrid& everyone, const SweepCommand& command);
int collect(const ProcessGrid& everyone, const CollectCommand& command);
int spectrum(const ProcessGrid& everyone, const FileCommand& command);
int gradients(const ProcessGrid& everyone, const FileCommand& command);
int evaluate_file(const ProcessGrid& everyone, const FileCommand& command);
int convert(const ProcessGrid& everyone, const ConvertCommand& command);

// Parses the command line and runs the command it names. Throws Error; usage errors have Exit::usage.
int run_command_line(int argc, char** argv);

}  // namespace spikefloss
