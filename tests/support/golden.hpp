// Loads a golden case (tests/data/*.h5), or any file with /network and /sequences, with the plain HDF5 C API, so that
// tests do not depend on the program's own reader. Throws std::runtime_error with the names of the file and the object.
#pragma once

#include "reference/lyapunov.hpp"
#include "reference/model.hpp"

#include <optional>
#include <string>
#include <vector>

namespace spikefloss {

// The content of /expect. A gradient has the datasets of its group; parameters without a dataset are empty.
struct GoldenExpectation {
    reference::LossKind loss_kind = reference::LossKind::binary_cross_entropy;
    reference::SpectrumOptions spectrum;  // warmup, qr_interval, jacobian_reset
    std::int64_t exponents = 0;           // k
    double task_loss = 0.0, floss_loss = 0.0;
    std::vector<double> current, membrane;    // [T+1, B, N]
    std::vector<double> spikes;               // [T+1, B, N]
    std::vector<double> readout;              // [T, B, O]
    std::vector<double> state_gradient_norm;  // [T+1]
    std::vector<double> lambda;               // [k]
    std::vector<double> lambda_per_sequence;  // [B, k]
    std::vector<double> log_r;                // [QRs, B, k]
    reference::Parameters task_gradient, floss_gradient, floss_gradient_direct;
};

struct GoldenCase {
    std::string name, path;
    reference::Network network;
    reference::Sequences sequences;
    std::optional<GoldenExpectation> expect;  // absent if the file has no /expect
};

GoldenCase load_golden(const std::string& path);
// Names (without .h5) of the cases in `folder`, sorted. Throws if there is none.
std::vector<std::string> golden_names(const std::string& folder);

}  // namespace spikefloss
