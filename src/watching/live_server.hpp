// What rank 0 serves over HTTP while a run goes on: / the page of the run, /data what the page asks for later on, and
// /metrics for Prometheus. One thread of its own answers, from the files of the run directory; training only tells it
// at which step it is, and never waits for it.
#pragma once

#include "config/config.hpp"

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <thread>

namespace spikefloss {

// Where a run is, written by the training thread and read by the one that answers.
struct LivePosition {
    std::atomic<std::int64_t> step = 0, floss_step = 0;
};

class LiveServer {
public:
    // Takes the port, so that one in use is an error before any training: Error(Exit::usage). Answers come only after
    // start(). token: what every visitor must show; empty: nothing. other_ports: as many ports after serve.port are
    // tried where it is in use.
    LiveServer(const ServeConfig& config, std::string token, int other_ports);
    // Closes every connection; ends within a second, whatever visitors do.
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
    std::int64_t port() const { return config_.port; }  // the one that was taken

private:
    struct Work;
    ServeConfig config_;
    std::string token_;
    std::shared_ptr<LivePosition> position_ = std::make_shared<LivePosition>();
    std::shared_ptr<Work> work_;
    std::thread thread_;
    std::future<void> ended_;
};

}  // namespace spikefloss
