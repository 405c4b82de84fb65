// Capture of streams into graphs, and their replay.
#include "settings.hpp"
#include "streams.hpp"

#include <algorithm>
#include <string>

namespace emulation {

namespace {

// Whether `node` comes before one of `frontier`, or is one.
bool reachable(const Graph& graph, std::vector<int> frontier, int node) {
    std::vector<bool> seen(graph.nodes.size(), false);
    while (!frontier.empty()) {
        const int at = frontier.back();
        frontier.pop_back();
        if (at == node) return true;
        if (seen[static_cast<std::size_t>(at)]) continue;
        seen[static_cast<std::size_t>(at)] = true;
        for (int before : graph.nodes[static_cast<std::size_t>(at)].after) frontier.push_back(before);
    }
    return false;
}

// Whether the origin waits, at the end, for all work of the other streams of the capture.
bool joined(const Capture& capture) {
    for (const CUstream_st* stream : capture.streams)
        for (int node : stream->frontier)
            if (!reachable(*capture.graph, capture.origin->frontier, node)) return false;
    return true;
}

// The nodes in an order that their dependencies allow: the recorded order, or, with an odd seed, the order that always
// takes the latest node that is ready.
std::vector<int> replay_order(const Graph& graph) {
    const int count = static_cast<int>(graph.nodes.size());
    std::vector<int> order;
    if (setting("SPIKEFLOSS_EMULATION_SEED", 0) % 2 == 0) {
        for (int n = 0; n < count; ++n) order.push_back(n);
        return order;
    }
    std::vector<int> open(graph.nodes.size());
    std::vector<std::vector<int>> next(graph.nodes.size());
    std::vector<int> ready;
    for (int n = 0; n < count; ++n) {
        open[static_cast<std::size_t>(n)] = static_cast<int>(graph.nodes[static_cast<std::size_t>(n)].after.size());
        for (int before : graph.nodes[static_cast<std::size_t>(n)].after)
            next[static_cast<std::size_t>(before)].push_back(n);
        if (open[static_cast<std::size_t>(n)] == 0) ready.push_back(n);
    }
    while (!ready.empty()) {
        const auto latest = std::max_element(ready.begin(), ready.end());
        const int n = *latest;
        ready.erase(latest);
        order.push_back(n);
        for (int after : next[static_cast<std::size_t>(n)])
            if (--open[static_cast<std::size_t>(after)] == 0) ready.push_back(after);
    }
    return order;
}

// One replay. It may take several attempts if a node waits for another rank.
class Replay {
public:
    explicit Replay(std::shared_ptr<Graph> graph) : graph_(std::move(graph)), order_(replay_order(*graph_)) {}

    void run() {
        for (; next_ < order_.size() && device().sticky == cudaSuccess; ++next_) {
            const GraphNode& node = graph_->nodes[static_cast<std::size_t>(order_[next_])];
            device().running = node.name;
            node.run();
            if (device().unfinished) return;
        }
        next_ = 0;
    }

private:
    std::shared_ptr<Graph> graph_;
    std::vector<int> order_;
    std::size_t next_ = 0;
};

}  // namespace

cudaError_t forbid_in_capture(const CUstream_st* stream) {
    for (const auto& capture : device().captures) {
        if (stream && stream->capture != capture) continue;
        capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return cudaSuccess;
}

cudaError_t record_node(CUstream_st* stream, const char* name, std::function<void()> work) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    Graph& graph = *stream->capture->graph;
    graph.nodes.push_back({name, std::move(work), stream->frontier});
    stream->frontier = {static_cast<int>(graph.nodes.size()) - 1};
    return cudaSuccess;
}

}  // namespace emulation

using namespace emulation;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    std::lock_guard lock(device().mutex);
    if (!stream) return answer(cudaErrorStreamCaptureUnsupported);
    if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (stream->capture) return answer(cudaErrorInvalidValue);
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->streams = {stream};
    stream->capture = capture;
    stream->frontier.clear();
    device().captures.push_back(capture);
    return answer(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    std::lock_guard lock(device().mutex);
    *graph = nullptr;
    if (!stream || !exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    const auto capture = stream->capture;
    if (!capture) return answer(cudaErrorInvalidValue);
    if (capture->origin != stream) return answer(cudaErrorStreamCaptureUnmatched);
    const bool all_joined = joined(*capture);
    for (CUstream_st* member : capture->streams) {
        member->capture = nullptr;
        member->frontier.clear();
    }
    std::erase(device().captures, capture);
    if (capture->invalid) return answer(cudaErrorStreamCaptureInvalidated);
    if (!all_joined) return answer(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{capture->graph};
    return answer(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    if (!graph) return answer(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{graph->graph};
    for (const GraphNode& node : graph->graph->nodes)
        for (const auto& count : node.users) ++*count;
    return answer(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    if (!exec) return answer(cudaErrorInvalidValue);
    return queue(stream, "cudaGraphLaunch", [replay = std::make_shared<Replay>(exec->graph)] { replay->run(); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (!graph) return answer(cudaErrorInvalidValue);
    delete graph;
    return answer(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    if (!exec) return answer(cudaErrorInvalidValue);
    for (const GraphNode& node : exec->graph->nodes)
        for (const auto& count : node.users) --*count;
    delete exec;
    return answer(cudaSuccess);
}
