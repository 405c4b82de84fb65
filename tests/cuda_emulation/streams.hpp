// Streams, events and graphs. Work is queued and runs only when a call waits for it, so a forgotten wait shows as wrong
// data. With an odd seed the work of every second stream runs at once, as far as its events allow; this shows a wait
// that another stream has forgotten. After queued work has raised a sticky error, every later call returns it.
#pragma once

#include "cuda_runtime_api.h"

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace emulation {

// A point in a stream's queue that others can wait for.
struct Marker {
    CUstream_st* stream = nullptr;
    bool reached = false;
};

struct Work {
    const char* name;
    std::function<void()> run;
    std::shared_ptr<Marker> marker;    // reached after `run`; may be null
    std::shared_ptr<Marker> wait_for;  // before `run`; may be null
};

struct GraphNode {
    const char* name;
    std::function<void()> run;
    std::vector<int> after;  // nodes
    // Counters of the instantiated graphs with this node, of the communicators that it uses.
    std::vector<std::shared_ptr<std::atomic<int>>> users = {};
};

struct Graph {
    std::vector<GraphNode> nodes;
};

// A capture in progress, shared by the streams that take part.
struct Capture {
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    CUstream_st* origin = nullptr;
    bool invalid = false;
    std::vector<CUstream_st*> streams;
};

}  // namespace emulation

struct CUstream_st {
    bool eager = false;  // runs work at once if possible
    std::deque<emulation::Work> queue;
    std::shared_ptr<emulation::Capture> capture;
    std::vector<int> frontier;  // nodes of the capture that come before the next one
};

struct CUevent_st {
    std::shared_ptr<emulation::Marker> marker;  // null: never recorded
    std::shared_ptr<emulation::Capture> capture;
    std::vector<int> frontier;
};

struct CUgraph_st {
    std::shared_ptr<emulation::Graph> graph;
};
struct CUgraphExec_st {
    std::shared_ptr<emulation::Graph> graph;
};

namespace emulation {

struct Device {
    std::recursive_mutex mutex;
    CUstream_st default_stream;
    std::vector<CUstream_st*> streams;  // those created
    std::vector<std::shared_ptr<Capture>> captures;
    cudaError_t sticky = cudaSuccess, last = cudaSuccess;
    const char* running = nullptr;
    bool may_wait = true;     // false: work that waits for another rank gives up after a while ...
    bool unfinished = false;  // ... sets this, and is run again later
};
Device& device();

// The return value of every API call: a sticky error if there is one, else `error`, which is remembered.
cudaError_t answer(cudaError_t error);
// Ends with a report and a sticky error.
void raise(cudaError_t error, const std::string& report);

CUstream_st* resolve(CUstream_st* stream);
bool exists(const CUstream_st* stream);
std::shared_ptr<Marker> mark(CUstream_st* stream);
// Runs the queue of `stream` until `marker` is reached (null: until it is empty).
void run(CUstream_st* stream, const Marker* marker = nullptr);
void run_all();
bool idle();
// The error if a capture that forbids calls of this kind is in progress. stream null: any.
cudaError_t forbid_in_capture(const CUstream_st* stream);
cudaError_t record_node(CUstream_st* stream, const char* name, std::function<void()> work);
cudaError_t queue(CUstream_st* stream, const char* name, std::function<void()> work);
const char* running_work();

}  // namespace emulation
