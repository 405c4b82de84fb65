// spikefloss: parses, runs, and ends every rank with one clear message and the right exit code.
#include "commands/commands.hpp"
#include "commands/stop_signal.hpp"
#include "io/file_probe.hpp"
#include "parallel/mpi_communicator.hpp"

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

// An error that all ranks share is printed once, and all leave in order. Any other error ends the whole job at once, so
// that no rank waits in a collective for one that is gone.
int leave(const spikefloss::Error& error) {
    int rank = 0, ranks = 1;
    if (spikefloss::mpi_runs()) {
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    }
    const std::string where = ranks > 1 && !error.collective ? fmt::format(" [rank {}]", rank) : "";
    if (*error.what()) std::fprintf(stderr, "spikefloss%s: error: %s\n", where.c_str(), error.what());
    std::fflush(stderr);
    const int code = static_cast<int>(error.code());
    if (!error.collective && ranks > 1) MPI_Abort(MPI_COMM_WORLD, code);
    return code;
}

// The watchdog needs its limit before the options are parsed. The parser later rejects a text that is no number.
void read_watchdog(int argc, char** argv) {
    constexpr const char* option = "--watchdog";
    const std::size_t length = std::strlen(option);
    for (int i = 1; i < argc; ++i) {
        if (std::strncmp(argv[i], option, length) != 0) continue;
        const char* text = argv[i][length] == '=' ? argv[i] + length + 1 : argv[i][length] ? nullptr : argv[i + 1];
        const double seconds = text ? std::atof(text) : -1.0;
        if (std::isfinite(seconds) && seconds >= 0.0) spikefloss::Watchdog::default_seconds = seconds;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc >= 3 && !std::strcmp(argv[1], spikefloss::probe_word))
        return spikefloss::probe_file(argv[2], {argv + 3, argv + argc});
    spikefloss::set_probe_program("/proc/self/exe");
    if (argc > 1 && (!std::strcmp(argv[1], "train") || !std::strcmp(argv[1], "sweep"))) spikefloss::listen_for_stop();
    // A write beyond the file-size limit must return an error with a message, not end the process.
    std::signal(SIGXFSZ, SIG_IGN);
    read_watchdog(argc, argv);
    try {
        spikefloss::MpiSession mpi(&argc, &argv, spikefloss::MpiSession::Start::only_as_rank);
        try {
            const int code = spikefloss::run_command_line(argc, argv);
            // All output is written. When a rank exits with a code other than 0, srun sends SIGTERM to the others. No
            // rank exits before all have reached MPI_Finalize, so if SIGTERM is ignored, all exit with the same code.
            std::signal(SIGTERM, SIG_IGN);
            return code;
        } catch (const spikefloss::Error& error) {
            return leave(error);
        } catch (const std::bad_alloc&) {
            return leave(spikefloss::out_of_memory());
        } catch (const std::exception& error) {
            return leave(
                {spikefloss::Exit::internal, error.what(), "this is a defect of spikefloss; please report it"});
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "spikefloss: error: %s\n", error.what());
        return 1;
    }
}
