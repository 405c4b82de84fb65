// What rank 0 serves over HTTP while a run goes on: / the page of the run, /data what the page asks for later on, and
// /metrics for Prometheus. Threads of its own answer, from the files of the run directory; training only tells them at
// which step it is, and never waits for them.
#pragma once

#include "config/config.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace spikefloss {

// Where a run is, written by the training thread and read by those that answer.
struct LivePosition {
    std::atomic<std::int64_t> step = 0, floss_step = 0;
};

class LiveServer {
public:
    // Takes the port, so that one in use is an error before any training: Error(Exit::usage), also when this build
    // cannot serve. Answers come only after start().
    explicit LiveServer(const ServeConfig& config);
    // Ends within a few seconds, whatever visitors do.
    ~LiveServer();
    LiveServer(const LiveServer&) = delete;
    LiveServer& operator=(const LiveServer&) = delete;

    // To be called once the files of this run are in its directory. first, total: training steps done before this
    // session, and wanted.
    void start(const std::string& directory, std::int64_t first, std::int64_t total, int ranks);
    // The run is at this step. Never waits.
    void at(std::int64_t step, std::int64_t floss_step) {
        position_->step.store(step, std::memory_order_relaxed);
        position_->floss_step.store(floss_step, std::memory_order_relaxed);
    }
    // Where people look, without the token.
    std::string address() const;

private:
    struct Work;
    ServeConfig config_;
    std::shared_ptr<LivePosition> position_ = std::make_shared<LivePosition>();
    std::unique_ptr<Work> work_;
};

}  // namespace spikefloss
