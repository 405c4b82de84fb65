#include "graph.hpp"

#include "check.hpp"

namespace spikefloss {
namespace {

// The graph of the operations that `work` queues on `stream`.
cudaGraphExec_t recorded_graph(cudaStream_t stream, const std::function<void()>& work) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    try {
        work();
    } catch (...) {
        cudaStreamEndCapture(stream, &graph);  // the stream must not stay in capture
        if (graph) cudaGraphDestroy(graph);
        throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t result = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(result, "cudaGraphInstantiate");
    return executable;
}

}  // namespace

GraphRecording::GraphRecording(cudaStream_t stream, std::vector<GraphRecording*>& all) : stream_(stream), all_(all) {
    all_.push_back(this);
}

GraphRecording::~GraphRecording() {
    drop();
    std::erase(all_, this);
}

void GraphRecording::drop() noexcept {
    if (graph_) cudaGraphExecDestroy(graph_);
    graph_ = nullptr;
}

void GraphRecording::run(const std::function<void()>& work) {
    if (!called_) {
        called_ = true;
        return work();
    }
    if (!graph_) graph_ = recorded_graph(stream_, work);
    check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
}

}  // namespace spikefloss
