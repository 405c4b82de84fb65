// Who owns what, and who talks to whom: P neuron shards x Q batch shards. It knows nothing of neurons.
//
// rank = p + P q. `neurons` joins the P ranks that hold the same sequences, `batch` the Q ranks that hold the same neurons.
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

// "PxQ" -> shape; "" or "auto" -> 1 x ranks. Throws Error(Exit::usage) when the text is malformed or P Q != ranks.
GridShape parse_grid(const std::string& text, int ranks);

class ProcessGrid {
public:
    // Communicators for host memory over all ranks of `comm`; shape.neuron_shards * shape.batch_shards must be their number.
    ProcessGrid(MPI_Comm comm, GridShape shape);

    GridShape shape() const { return shape_; }
    int neuron_shard() const { return neuron_shard_; }  // p
    int batch_shard() const { return batch_shard_; }    // q
    int rank() const { return control_.rank(); }
    int ranks() const { return control_.size(); }

    // The neurons and the sequences that this rank owns.
    BlockRange neurons_of(Index neurons) const { return block_range(neurons, shape_.neuron_shards, neuron_shard_); }
    BlockRange sequences_of(Index sequences) const { return block_range(sequences, shape_.batch_shards, batch_shard_); }

    // For arrays in backend memory.
    Communicator& world() const { return *world_; }
    Communicator& neurons() const { return *neurons_; }
    Communicator& batch() const { return *batch_; }

    // For small things in host memory (flags, metrics), over all ranks.
    MpiCommunicator& control() const { return control_; }

    // Runs `work` on every rank, `work` making no collective calls itself; if it throws on any rank, every rank throws:
    // the lowest failing rank its own error, the others a silent one, all marked collective.
    void agree(const std::function<void()>& work) const;

private:
    GridShape shape_;
    int neuron_shard_, batch_shard_;
    mutable MpiCommunicator control_;
    std::unique_ptr<Communicator> world_, neurons_, batch_;
};

}  // namespace spikefloss
