// What a command computes with: the process grid, and a backend with its share of the machine's cores.
#pragma once

#include "backend/factory.hpp"
#include "commands/commands.hpp"
#include "core/flush_denormals.hpp"
#include "io/checkpoint.hpp"
#include "parallel/process_grid.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

class Session {
public:
    ProcessGrid grid;
    int threads;
    std::unique_ptr<Backend> backend;

    // everyone: all ranks. Collective.
    Session(const ProcessGrid& everyone, const ParallelChoice& choice, Sums sums);
    // The communicators use the backend's queue: they go first.
    ~Session() { grid.connect({}); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // "cuda, fp32 products, communicator nccl", and the device of every rank, one line for ranks with the same device;
    // and a warning, if there is one: contradictions about machines, kernels of OpenBLAS that are not used. Collective.
    std::string devices_text() const;
    // That of this rank.
    const std::string& device() const { return device_; }
    // One JSON object with the machines and settings of this session, the run and its data. passes: as Trainer::passes.
    // Collective.
    std::string record(const CheckpointOrigin& origin,
                       const std::vector<std::pair<std::string, std::string>>& passes) const;
    // Those of the backend, if they run on the host; otherwise 0.
    int host_threads() const { return backend->name() == "cpu" ? threads : 0; }
    // This rank's share of the free memory of its GPU or machine.
    std::size_t memory_share() const { return backend->free_memory() / static_cast<std::size_t>(sharers_); }

private:
    std::vector<std::string> devices() const;

    CommKind comm_;
    Precision precision_;
    std::optional<FlushDenormals> flush_;  // on a CPU. A GPU has denormal numbers at no cost.
    std::string device_, warning_;
    int sharers_ = 1;  // ranks that share the memory
};

}  // namespace spikefloss
