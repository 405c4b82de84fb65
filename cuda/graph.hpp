// A sequence of many launches on fixed memory is recorded once as a CUDA graph and then replayed. One call replaces
// thousands.
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

class GraphCache {
public:
    GraphCache() = default;
    ~GraphCache();
    GraphCache(const GraphCache&) = delete;
    GraphCache& operator=(const GraphCache&) = delete;

    // Queues the operations of `work` on `stream`. The first run with a key calls `work`, so that it can allocate
    // scratch. The second records a graph of it. The second and all later runs launch the graph. While a graph is
    // recorded, `work` must not wait for the stream or allocate.
    void run(cudaStream_t stream, const GraphKey& key, const std::function<void()>& work);
    // Drops all graphs: the memory they point to is about to be freed.
    void clear();
    // The number of graphs recorded until now, for tests.
    int recorded() const { return recorded_; }

private:
    struct Entry {
        GraphKey key;
        cudaGraphExec_t graph = nullptr;  // null: the key was used once
        std::uint64_t used = 0;
    };
    void drop(Entry& entry);

    std::vector<Entry> entries_;
    std::uint64_t clock_ = 0;
    int recorded_ = 0;
};

}  // namespace spikefloss
