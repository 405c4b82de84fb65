#include "graph.hpp"

#include "check.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// A run has few shapes. Beyond this number, the least recently used graph is dropped.
constexpr std::size_t most_graphs = 16;

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

GraphCache::~GraphCache() { clear(); }

void GraphCache::drop(Entry& entry) {
    if (entry.graph) cudaGraphExecDestroy(entry.graph);
    entry.graph = nullptr;
}

void GraphCache::clear() {
    for (Entry& entry : entries_) drop(entry);
    entries_.clear();
}

void GraphCache::run(cudaStream_t stream, const GraphKey& key, const std::function<void()>& work) {
    ++clock_;
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
    if (found == entries_.end()) {
        work();
        if (entries_.size() == most_graphs) {
            const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                                 [](const Entry& a, const Entry& b) { return a.used < b.used; });
            drop(*oldest);
            entries_.erase(oldest);
        }
        entries_.push_back({key, nullptr, clock_});
        return;
    }
    found->used = clock_;
    if (!found->graph) {
        found->graph = recorded_graph(stream, work);
        ++recorded_;
    }
    check(cudaGraphLaunch(found->graph, stream), "cudaGraphLaunch");
}

}  // namespace spikefloss
