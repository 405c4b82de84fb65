// Builds the communicators of the grid and lets ranks agree on failure.
#include "parallel/process_grid.hpp"

#include "core/error.hpp"

#include <charconv>
#include <new>

namespace spikefloss {
namespace {

std::unique_ptr<MpiCommunicator> split(MPI_Comm comm, int color, int key, const std::shared_ptr<Watchdog>& watchdog) {
    MPI_Comm part = MPI_COMM_NULL;
    if (!mpi_runs()) return std::make_unique<MpiCommunicator>(part, watchdog);
    const Watchdog::Blocking blocking(watchdog.get(), "MPI_Comm_split");
    check_mpi(MPI_Comm_split(comm, color, key, &part), "MPI_Comm_split");
    auto communicator = std::make_unique<MpiCommunicator>(part, watchdog);
    MPI_Comm_free(&part);
    return communicator;
}

bool parse_positive(const char* first, const char* last, int& value) {
    const auto [end, fault] = std::from_chars(first, last, value);
    return fault == std::errc() && end == last && value >= 1;
}

}  // namespace

GridShape read_grid(const std::string& text) {
    const auto cross = text.find('x');
    GridShape shape;
    require(cross != std::string::npos && parse_positive(text.data(), text.data() + cross, shape.neuron_shards) &&
                parse_positive(text.data() + cross + 1, text.data() + text.size(), shape.batch_shards),
            Exit::usage, fmt::format("grid '{}' is not of the form PxQ", text),
            "give P neuron shards and Q batch shards as in 2x2, or auto");
    return shape;
}

GridShape parse_grid(const std::string& text, int ranks) {
    if (text.empty() || text == "auto") return {1, ranks};
    const GridShape shape = read_grid(text);
    require(static_cast<long>(shape.neuron_shards) * shape.batch_shards == ranks, Exit::usage,
            fmt::format("grid {} needs {} ranks, but {} running", text,
                        static_cast<long>(shape.neuron_shards) * shape.batch_shards,
                        ranks == 1 ? "1 is" : fmt::format("{} are", ranks)),
            fmt::format("start with mpirun -n {}, or choose a grid of {}",
                        static_cast<long>(shape.neuron_shards) * shape.batch_shards, ranks));
    return shape;
}

ProcessGrid::ProcessGrid(MPI_Comm comm, GridShape shape, double watchdog_seconds)
    : shape_(shape), watchdog_(std::make_shared<Watchdog>(comm, watchdog_seconds)), control_(comm, watchdog_) {
    require(
        shape.neuron_shards >= 1 && shape.batch_shards >= 1 &&
            shape.neuron_shards * shape.batch_shards == control_.size(),
        Exit::usage,
        fmt::format("a grid of {}x{} does not fit {} ranks", shape.neuron_shards, shape.batch_shards, control_.size()));
    neuron_shard_ = control_.rank() % shape.neuron_shards;
    batch_shard_ = control_.rank() / shape.neuron_shards;
    connect(host_communicators());
}

ProcessGrid::ProcessGrid(GridShape shape, int rank, Communicators communicators)
    : shape_(shape),
      neuron_shard_(rank % shape.neuron_shards),
      batch_shard_(rank / shape.neuron_shards),
      watchdog_(std::make_shared<Watchdog>(MPI_COMM_SELF, 0.0)),
      control_(MPI_COMM_SELF, watchdog_),
      communicators_(std::move(communicators)) {}

Communicators ProcessGrid::host_communicators() const {
    const MPI_Comm all = control_.handle();
    return {std::make_unique<MpiCommunicator>(all, watchdog_), split(all, batch_shard_, neuron_shard_, watchdog_),
            split(all, neuron_shard_, batch_shard_, watchdog_)};
}

void ProcessGrid::agree(const std::function<void()>& work) const {
    std::exception_ptr fault;
    try {
        work();
    } catch (const std::bad_alloc&) {
        fault = std::make_exception_ptr(out_of_memory());
    } catch (const Error& error) {
        if (error.code() == Exit::lost) throw;  // lost ranks cannot agree
        fault = std::current_exception();
    } catch (...) {
        fault = std::current_exception();
    }
    const int me = control_.rank(), all = control_.size();
    const int first = control_.lowest(fault ? me : all);
    if (first == all) return;
    // The lowest failing rank keeps its text. The others get the exit code without a text.
    int code = static_cast<int>(Exit::internal);
    if (me == first) {
        try {
            std::rethrow_exception(fault);
        } catch (const Error& error) {
            code = static_cast<int>(error.code());
        } catch (...) {
        }
    }
    control_.broadcast(&code, sizeof code, first);
    if (me == first) {
        try {
            std::rethrow_exception(fault);
        } catch (Error& error) {
            error.collective = true;
            throw;
        } catch (const std::exception& error) {
            Error wrapped(Exit::internal, error.what(), "this is a defect of spikefloss; please report it");
            wrapped.collective = true;
            throw wrapped;
        }
    }
    Error silent(static_cast<Exit>(code), "");
    silent.collective = true;
    throw silent;
}

}  // namespace spikefloss
