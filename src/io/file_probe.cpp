#include "io/file_probe.hpp"

#include "core/error.hpp"
#include "io/hdf5_checksum.hpp"
#include "io/hdf5_file.hpp"
#include "io/nir_graph.hpp"
#include "network/parameters.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <vector>

namespace spikefloss {
namespace {

std::string probe_program;

// Limits of computing, and of waiting for a disk, without progress.
constexpr rlim_t most_cpu_seconds = 5;
constexpr unsigned most_seconds = 60;
constexpr rlim_t most_memory = rlim_t(8) << 30;  // besides what the program has when it starts
constexpr int exit_lacks_memory = 3;

// Signals that stop a run. They are meant for the run, not for the probe.
constexpr int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};

// The library has made progress, so the limits of time start again.
void progress() {
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
    rlimit limit = {};
    getrlimit(RLIMIT_CPU, &limit);
    limit.rlim_cur = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1 + most_cpu_seconds;
    if (limit.rlim_max != RLIM_INFINITY) limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
    setrlimit(RLIMIT_CPU, &limit);
    alarm(most_seconds);
}

void limit_this_process() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);  // no core file of a crash that is expected
    for (const int signal : stop_signals) std::signal(signal, SIG_IGN);
    for (const int signal : {SIGALRM, SIGXCPU, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) std::signal(signal, SIG_DFL);
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit = {};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = std::min(limit.rlim_max, static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + most_memory);
    setrlimit(RLIMIT_AS, &limit);
    progress();
}

// The library calls this when a read has failed; `lacks_memory` is a bool. A damaged list may name a length of 4
// billion: the reader, which has no such limit, would take that memory and fill it.
herr_t note_failure(hid_t stack, void* lacks_memory) {
    const auto note = [](unsigned, const H5E_error2_t* error, void* lacks) -> herr_t {
        *static_cast<bool*>(lacks) |= error->min_num == H5E_NOSPACE;
        return 0;
    };
    return H5Ewalk2(stack, H5E_WALK_UPWARD, note, lacks_memory);
}

// Runs one read. An exception is ignored, because the reader will throw it again.
template <class Work>
void attempt(Work&& work) {
    try {
        work();
    } catch (const std::exception&) {
    }
    progress();
}

// The members of /network/populations and /network/projections, and the moments of the latter.
void touch_projections(const InputFile& file) {
    for (const std::string& name : file.members("/network/populations"))
        attempt([&] { touch_attributes(file, "/network/populations/" + name, {"begin", "size"}); });
    for (const std::string& name : file.members("/network/projections")) {
        const std::string group = "/network/projections/" + name;
        attempt([&] { touch_attributes(file, group, {"from", "to", "delay", "sign"}); });
        for (const char* part : {"/weights", "/data", "/indices", "/indptr"})
            attempt([&] { file.touch(group + part, progress); });
        for (const char* moment : {"task/first", "task/second", "floss/first", "floss/second"})
            attempt([&] { file.touch(fmt::format("/optimiser/{}/projections/{}", moment, name), progress); });
    }
}

void touch(const InputFile& file) {
    for (const char* group : {"/network", "/optimiser/task/first", "/optimiser/task/second", "/optimiser/floss/first",
                              "/optimiser/floss/second"})
        for (const Parameter p : all_parameters)
            attempt([&] { file.touch(fmt::format("{}/{}", group, name_of(p)), progress); });
    attempt([&] { touch_projections(file); });
    for (const char* group : {"/sequences", ""})
        for (const char* name : {"x", "mask", "target", "label", "labels", "length", "q0", "spikes/times",
                                 "spikes/units", "extra/speaker"})
            attempt([&] { file.touch(fmt::format("{}/{}", group, name), progress); });
    attempt([&] {
        touch_attributes(file, "/network",
                         {"format", "version", "threshold", "reset", "reset_delay", "surrogate", "sharpness", "readout",
                          "layout", "nir", "inputs", "readout_from", "adaptation", "refractory"});
    });
    attempt([&] { touch_attributes(file, "/sequences", {"layout"}); });
    attempt([&] {
        if (file.has("/node")) read_nir(file.path());
    });
    for (const char* object : {"/", "/progress", "/optimiser/task", "/optimiser/floss"})
        attempt([&] { touch_attributes(file, object, {}); });
}

// Starts the program again, without the environment of MPI and with its own standard streams. The process, or -1.
pid_t start_program(const std::string& path, const std::vector<std::string>& datasets) {
    std::vector<std::string> texts;
    for (char** variable = environ; *variable; ++variable) {
        const std::string text = *variable;
        const auto is_of = [&](const char* beginning) { return text.starts_with(beginning); };
        if (!is_of("OMPI_") && !is_of("PMIX_") && !is_of("PMI_") && !is_of("OPENBLAS_NUM_THREADS"))
            texts.push_back(text);
    }
    texts.emplace_back("OPENBLAS_NUM_THREADS=1");  // it starts threads when it is loaded
    std::vector<char*> environment;
    for (std::string& text : texts) environment.push_back(text.data());
    environment.push_back(nullptr);
    std::vector<std::string> arguments = {probe_program, probe_word, path};
    arguments.insert(arguments.end(), datasets.begin(), datasets.end());
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);

    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);  // Ctrl-C is for the run
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    pid_t process = -1;
    if (posix_spawn(&process, probe_program.c_str(), &files, &attributes, words.data(), environment.data()) != 0)
        process = -1;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return process;
}

// A fork takes milliseconds, a start of the program with all its libraries 100 ms. But a fork of a process that uses
// MPI with other ranks breaks the memory that it has registered with a network card.
pid_t start_probe(const std::string& path, const std::vector<std::string>& datasets) {
    int uses_mpi = 0, ranks = 1;
    MPI_Initialized(&uses_mpi);
    if (uses_mpi) MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks > 1) return probe_program.empty() ? -1 : start_program(path, datasets);
    const pid_t process = fork();
    if (process == 0) {
        setpgid(0, 0);  // Ctrl-C is for the run
        _exit(probe_file(path, datasets));
    }
    return process;
}

// What the status of the probe says against the file, or "".
std::string finding_of(int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == exit_lacks_memory)
        return fmt::format("wants more than {} GiB for a part of it", most_memory >> 30);
    if (!WIFSIGNALED(status)) return "";
    const int signal = WTERMSIG(status);
    if (std::find(std::begin(stop_signals), std::end(stop_signals), signal) != std::end(stop_signals)) return "";
    return signal == SIGXCPU || signal == SIGALRM ? std::string("does not finish reading it")
                                                  : fmt::format("crashes on it ({})", strsignal(signal));
}

}  // namespace

void set_probe_program(const std::string& program) { probe_program = program; }

int probe_file(const std::string& path, const std::vector<std::string>& datasets) {
    limit_this_process();
    silence_hdf5();
    bool lacks_memory = false;
    H5Eset_auto2(H5E_DEFAULT, note_failure, &lacks_memory);
    attempt([&] {
        const InputFile file(path, progress);
        touch(file);
        for (const std::string& name : datasets) {
            attempt([&] { touch_attributes(file, name, {"layout"}); });
            attempt([&] { file.touch(name, progress); });
        }
        if (has_seal(path)) attempt([&] { touch_contents(file, progress); });
    });
    return lacks_memory ? exit_lacks_memory : 0;
}

std::string probe_fault(const std::string& path, const std::vector<std::string>& datasets) {
    const auto before = std::signal(SIGCHLD, SIG_DFL);  // if it were ignored, there would be no status
    const pid_t process = start_probe(path, datasets);
    int status = 0;
    bool ended = false;
    while (process > 0 && !ended) {
        const pid_t answer = waitpid(process, &status, 0);
        if (answer < 0 && errno != EINTR) break;
        ended = answer == process;
    }
    std::signal(SIGCHLD, before);
    // If no process can be started, as in a full job, the file is read without a probe.
    const std::string finding = ended ? finding_of(status) : "";
    return finding.empty() ? "" : fmt::format("{}: the file is damaged: the HDF5 library {}", path, finding);
}

void require_readable(const std::string& path, const ProcessGrid& grid, const std::vector<std::string>& datasets) {
    grid.agree([&] { require_regular_file(path); });
    const bool sealed = has_seal(path);  // a checkpoint, or a result
    std::int64_t count = sealed;
    grid.control().all_reduce_sum(&count, Scalar::int64, 1);
    const std::string fault = count == grid.ranks() ? seal_fault(path, grid) : "";
    grid.agree([&] {
        const std::string found = !fault.empty() || grid.rank() != 0 ? fault : probe_fault(path, datasets);
        require(found.empty(), Exit::bad_file, found, "copy or write the file again; docs/files.md shows how");
    });
}

}  // namespace spikefloss
