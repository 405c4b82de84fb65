// The server of rank 0 that shows a run over HTTP: / is the page of the run, /data has its updates, and /metrics is for
// Prometheus. A separate thread answers, from the files of the run directory. Training only publishes its step, and
// never waits for it.
#pragma once

#include "config/config.hpp"

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <thread>

namespace spikefloss {

// The progress of a run, written by the training thread and read by the answering thread.
struct LivePosition {
    std::atomic<std::int64_t> step = 0, floss_step = 0;
};

class LiveServer {
public:
    // Opens the port, so that a port in use is an error before any training: Error(Exit::usage). Answers begin with
    // start(). token: every visitor must show it; empty: no token. other_ports: number of ports after serve.port that
    // are tried if it is in use.
    LiveServer(const ServeConfig& config, std::string token, int other_ports);
    // Closes every connection. It takes less than a second.
    ~LiveServer();
    LiveServer(const LiveServer&) = delete;
    LiveServer& operator=(const LiveServer&) = delete;

    // Call it once the files of this run are in its directory. first: training steps done before this session; total:
    // training steps of the run.
    void start(const std::string& directory, std::int64_t first, std::int64_t total, int ranks);
    // Publishes the step of the run. Never waits.
    void at(std::int64_t step, std::int64_t floss_step) {
        position_->step.store(step, std::memory_order_relaxed);
        position_->floss_step.store(floss_step, std::memory_order_relaxed);
    }
    // The address of the page, without the token.
    std::string address() const;
    std::int64_t port() const { return config_.port; }  // the port in use

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
