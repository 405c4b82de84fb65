// Work of many launches that is queued again and again, recorded once as a CUDA graph and from then on queued as a
// whole: one call instead of thousands.
#pragma once

#include "backend/backend.hpp"

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

namespace spikefloss {

// Everything that the recorded work depends on: pointers, sizes, and constants that kernels take by value.
class GraphKey {
public:
    template <class T>
    GraphKey& operator<<(const T& value) {
        static_assert(std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>,
                      "padding bytes would make equal keys differ");
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    bool operator==(const GraphKey&) const = default;

private:
    std::string bytes_;
};

// A Recording of the backend's stream: calls `work` the first time (so that libraries connect and allocate), records it
// the second, and launches the graph from then on.
class GraphRecording final : public Recording {
public:
    explicit GraphRecording(cudaStream_t stream) : stream_(stream) {}
    ~GraphRecording() override;
    GraphRecording(const GraphRecording&) = delete;
    GraphRecording& operator=(const GraphRecording&) = delete;
    void run(const std::function<void()>& work) override;

private:
    cudaStream_t stream_;
    cudaGraphExec_t graph_ = nullptr;
    bool called_ = false;
};

class GraphCache {
public:
    GraphCache() = default;
    ~GraphCache();
    GraphCache(const GraphCache&) = delete;
    GraphCache& operator=(const GraphCache&) = delete;

    // Queues on `stream` what `work` queues there: by calling it the first time a key comes (so that it can allocate
    // scratch), by recording and launching it the second, by launching the recorded graph after that. While a graph is
    // recorded, `work` must not wait for the stream nor allocate.
    void run(cudaStream_t stream, const GraphKey& key, const std::function<void()>& work);
    // Forgets all graphs: what they point to is no longer there.
    void clear();
    // Graphs recorded so far, for tests.
    int recorded() const { return recorded_; }

private:
    struct Entry {
        GraphKey key;
        cudaGraphExec_t graph = nullptr;  // null: the key came once
        std::uint64_t used = 0;
    };
    void drop(Entry& entry);

    std::vector<Entry> entries_;
    std::uint64_t clock_ = 0;
    int recorded_ = 0;
};

}  // namespace spikefloss
