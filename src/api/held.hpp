// What the functions of the library compute with: a network in host memory, and a process grid, a backend and the
// network in its memory, which each call makes for itself. And what the commands compute by the same functions.
#pragma once

#include "api/spikefloss.hpp"
#include "backend/factory.hpp"
#include "lyapunov/tangent_pass.hpp"
#include "network/parameters.hpp"
#include "train/gradient.hpp"

namespace spikefloss::api {

struct Held {
    HostNetwork host;
    Index state_size() const;
};

// The grid is this process alone, also where MPI runs. The communicators go before the backend.
struct Machine {
    ProcessGrid grid;
    std::unique_ptr<Backend> backend;
    spikefloss::Network network;

    Machine(const Held& held, const Settings& settings);
    ~Machine() { grid.connect({}); }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
};

// Sequences in backend memory: x [T, b, M] of those of this rank, `mine`, of `total`.
struct Sequences {
    const float* x;
    Index steps;
    BlockRange mine;
    Index total;
};
// The spectrum on any grid, from the bases q0 as TangentPass::forward takes them; per_sequence and log_r are those of
// this rank. Error(Exit::numerics) if a membrane is not finite. Collective.
Spectrum spectrum(Backend& backend, const ProcessGrid& grid, const spikefloss::Network& network,
                  const Sequences& sequences, const TangentOptions& options, const std::vector<float>& q0);

// Error(Exit::usage) unless the array has this shape; `letters` names its axes.
void require_shape(const std::string& name, const View& view, const Shape& shape, const char* letters);
// Error(Exit::usage) unless it is [T, B, M] with numbers that are finite.
void require_input(const View& x, Index inputs);
void require_finite(const std::string& name, const View& view);

// The arrays of values that are laid out as the parameters, by name.
Arrays arrays_of(const ParameterLayout& layout, const std::vector<float>& values);
// The sum of a backward pass as arrays. Error(Exit::numerics) if the loss or a gradient is not finite.
Arrays finished(const Machine& machine, Gradient& gradient, double loss);

}  // namespace spikefloss::api
