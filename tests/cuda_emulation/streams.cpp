#include "streams.hpp"

#include "memory.hpp"
#include "settings.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

namespace emulation {

Device& device() {
    static Device& d = *new Device;
    return d;
}

cudaError_t answer(cudaError_t error) {
    if (device().sticky != cudaSuccess) return device().last = device().sticky;
    if (error != cudaSuccess && error != cudaErrorNotReady) device().last = error;
    return error;
}

void raise(cudaError_t error, const std::string& report) {
    if (!report.empty()) std::fprintf(stderr, "emulated device: %s\n", report.c_str());
    if (device().sticky == cudaSuccess) device().sticky = error;
}

Counts& counts() {
    static Counts all;
    return all;
}

CUstream_st* resolve(CUstream_st* stream) { return stream ? stream : &device().default_stream; }

bool exists(const CUstream_st* stream) {
    const auto& all = device().streams;
    return stream == &device().default_stream || std::find(all.begin(), all.end(), stream) != all.end();
}

// Runs the first piece of work. After an error, work is dropped.
static void run_one(CUstream_st* stream) {
    Work& work = stream->queue.front();
    if (work.wait_for && !work.wait_for->reached) run(work.wait_for->stream, work.wait_for.get());
    if (work.run && device().sticky == cudaSuccess && !device().unfinished) {
        device().running = work.name;
        work.run();
        device().running = nullptr;
    }
    if (device().unfinished) return;
    if (work.marker) work.marker->reached = true;
    stream->queue.pop_front();
}

void run(CUstream_st* stream, const Marker* marker) {
    if (stream->queue.empty()) return;
    install_fault_handler();
    DeviceAccess access;
    while (!stream->queue.empty() && !(marker && marker->reached) && !device().unfinished) run_one(stream);
    if (stream->queue.empty()) ++counts().idle;
}

// Runs all work that does not wait for another rank.
static void try_to_run(CUstream_st* stream, const Marker* marker) {
    device().may_wait = false;
    run(stream, marker);
    device().may_wait = true;
    device().unfinished = false;
}

// Runs work that waits for nothing, neither for other streams nor for other ranks.
static void run_ready(CUstream_st* stream) {
    DeviceAccess access;
    device().may_wait = false;
    while (!stream->queue.empty() && !device().unfinished) {
        const std::shared_ptr<Marker> wait_for = stream->queue.front().wait_for;
        if (wait_for && !wait_for->reached) break;
        run_one(stream);
    }
    device().may_wait = true;
    device().unfinished = false;
}

void run_all() {
    run(&device().default_stream);
    for (CUstream_st* stream : device().streams) run(stream);
}

bool idle() {
    const auto& all = device().streams;
    return device().default_stream.queue.empty() &&
           std::all_of(all.begin(), all.end(), [](const CUstream_st* s) { return s->queue.empty(); });
}

const char* running_work() { return device().running; }

std::shared_ptr<Marker> mark(CUstream_st* stream) {
    auto marker = std::make_shared<Marker>();
    marker->stream = stream;
    if (stream->queue.empty()) {
        marker->reached = true;
    } else {
        stream->queue.push_back({"event", nullptr, marker, nullptr});
    }
    return marker;
}

cudaError_t queue(CUstream_st* stream, const char* name, std::function<void()> work) {
    std::lock_guard lock(device().mutex);
    install_fault_handler();
    stream = resolve(stream);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (stream->capture) return answer(record_node(stream, name, std::move(work)));
    ++counts().queued;
    stream->queue.push_back({name, std::move(work), nullptr, nullptr});
    if (stream->eager) run_ready(stream);
    return cudaSuccess;
}

int enqueue(CUstream_st* stream, const char* name, std::function<void()> work) {
    return queue(stream, name, std::move(work));
}

}  // namespace emulation

using namespace emulation;

// ---- streams ----

// Streams that keep in step with the default stream are not emulated.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    std::lock_guard lock(device().mutex);
    if (!stream || flags != cudaStreamNonBlocking) return answer(cudaErrorInvalidValue);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    *stream = new CUstream_st;
    (*stream)->eager = setting("SPIKEFLOSS_EMULATION_SEED", 0) % 2 && device().streams.size() % 2;
    device().streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return answer(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    if (!stream || !exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    run(stream);
    std::erase(device().streams, stream);
    delete stream;
    return answer(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    stream = resolve(stream);
    if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (const cudaError_t error = forbid_in_capture(stream)) return answer(error);
    run(stream);
    return answer(cudaSuccess);
}

// Work runs at the first query, but the answer is then "not ready". A caller that stops after one query gets the answer
// of a busy device; a caller that queries again continues.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    stream = resolve(stream);
    if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (const cudaError_t error = forbid_in_capture(stream)) return answer(error);
    if (stream->queue.empty()) return answer(cudaSuccess);
    try_to_run(stream, nullptr);
    return answer(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    std::lock_guard lock(device().mutex);
    stream = resolve(stream);
    if (!event || !exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    if (event->capture) {
        if (stream->capture && stream->capture != event->capture) return answer(cudaErrorStreamCaptureIsolation);
        if (!stream->capture) {  // the stream joins the capture
            stream->capture = event->capture;
            stream->frontier.clear();
            event->capture->streams.push_back(stream);
        }
        for (int node : event->frontier)
            if (std::find(stream->frontier.begin(), stream->frontier.end(), node) == stream->frontier.end())
                stream->frontier.push_back(node);
        return answer(cudaSuccess);
    }
    if (stream->capture) {
        stream->capture->invalid = true;
        return answer(cudaErrorStreamCaptureIsolation);
    }
    if (event->marker && !event->marker->reached) stream->queue.push_back({"event", nullptr, nullptr, event->marker});
    return answer(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    return queue(stream, "host function", [=] { function(data); });
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    return answer(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (!event) return answer(cudaErrorInvalidResourceHandle);
    delete event;
    return answer(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    stream = resolve(stream);
    if (!event || !exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    event->capture = stream->capture;
    event->frontier = stream->frontier;
    event->marker = stream->capture ? nullptr : mark(stream);
    return answer(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    std::lock_guard lock(device().mutex);
    if (!event) return answer(cudaErrorInvalidResourceHandle);
    if (event->capture) return answer(cudaErrorCapturedEvent);
    if (const cudaError_t error = forbid_in_capture(nullptr)) return answer(error);
    if (!event->marker || event->marker->reached) return answer(cudaSuccess);
    try_to_run(event->marker->stream, event->marker.get());
    return answer(cudaErrorNotReady);
}
