// The grid of MPI ranks: P neuron shards x Q batch shards. It gives the neurons and sequences that each rank holds,
// and the communicators between ranks. It contains no equation of the network.
//
// rank = p + P q. `neurons` joins the P ranks that hold the same sequences, `batch` the Q ranks that hold the same
// neurons.
#pragma once

#include "parallel/block_range.hpp"
#include "parallel/mpi_communicator.hpp"

#include <functional>
#include <memory>
#include <string>

namespace spikefloss {

struct GridShape {
    int neuron_shards = 1;  // P
    int batch_shards = 1;   // Q
};

// "PxQ" -> shape. Throws Error(Exit::usage) when the text is malformed.
GridShape read_grid(const std::string& text);
// The same for a run on `ranks` ranks; "" or "auto" -> 1 x ranks. Throws Error(Exit::usage) when P Q != ranks, too.
GridShape parse_grid(const std::string& text, int ranks);

// The communicators for arrays in backend memory.
struct Communicators {
    std::unique_ptr<Communicator> world, neurons, batch;
};

class ProcessGrid {
public:
    // Communicators for host memory over all ranks of `comm`; shape.neuron_shards * shape.batch_shards must be their
    // number. watchdog_seconds: limit of a wait for other ranks; 0: none.
    ProcessGrid(MPI_Comm comm, GridShape shape, double watchdog_seconds = Watchdog::default_seconds);
    // A planned grid, as rank `rank` of it. The other ranks do not exist. So `communicators` exchange no data; they
    // count the bytes that the rank would send (CountingCommunicator). control() contains only this process.
    ProcessGrid(GridShape shape, int rank, Communicators communicators);

    GridShape shape() const { return shape_; }
    int neuron_shard() const { return neuron_shard_; }  // p
    int batch_shard() const { return batch_shard_; }    // q
    int rank() const { return neuron_shard_ + shape_.neuron_shards * batch_shard_; }
    int ranks() const { return shape_.neuron_shards * shape_.batch_shards; }

    // The neurons and the sequences that this rank owns.
    BlockRange neurons_of(Index neurons) const { return block_range(neurons, shape_.neuron_shards, neuron_shard_); }
    BlockRange sequences_of(Index sequences) const { return block_range(sequences, shape_.batch_shards, batch_shard_); }

    // For arrays in backend memory; at first this must be host memory.
    Communicator& world() const { return *communicators_.world; }
    Communicator& neurons() const { return *communicators_.neurons; }
    Communicator& batch() const { return *communicators_.batch; }

    // Replaces them by communicators for a backend's memory, over the same groups. They use the backend's queue: call
    // connect({}) before the backend is destroyed.
    void connect(Communicators communicators) { communicators_ = std::move(communicators); }
    // New communicators for host memory over the same groups. Collective.
    Communicators host_communicators() const;

    // For small data in host memory (flags, metrics), over all ranks.
    MpiCommunicator& control() const { return control_; }
    // Ends a wait for a lost rank.
    const std::shared_ptr<Watchdog>& watchdog() const { return watchdog_; }

    // Runs `work` on every rank. `work` must not make collective calls. If it throws on any rank, every rank throws:
    // the lowest failing rank its own error, the others an error without text. All are marked collective.
    void agree(const std::function<void()>& work) const;

private:
    GridShape shape_;
    int neuron_shard_, batch_shard_;
    std::shared_ptr<Watchdog> watchdog_;
    mutable MpiCommunicator control_;
    Communicators communicators_;
};

}  // namespace spikefloss
