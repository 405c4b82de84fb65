// A sequence of many launches on fixed memory is recorded once as a CUDA graph and then replayed. One call replaces
// thousands.
#pragma once

#include "backend/backend.hpp"

#include <cuda_runtime.h>

#include <functional>
#include <vector>

namespace spikefloss {

// A Recording on the backend's stream. The first run calls `work`, so that libraries connect and allocate. The second
// records a graph of it. The second and all later runs launch the graph.
class GraphRecording final : public Recording {
public:
    // `all`: the recordings that exist; this one adds and removes itself.
    GraphRecording(cudaStream_t stream, std::vector<GraphRecording*>& all);
    ~GraphRecording() override;
    GraphRecording(const GraphRecording&) = delete;
    GraphRecording& operator=(const GraphRecording&) = delete;
    void run(const std::function<void()>& work) override;
    // Destroys the graph. The next run records it again.
    void drop() noexcept;

private:
    cudaStream_t stream_;
    std::vector<GraphRecording*>& all_;
    cudaGraphExec_t graph_ = nullptr;
    bool called_ = false;
};

}  // namespace spikefloss
