#include "watching/live_server.hpp"

#include "watching/live_site.hpp"

#include <chrono>
#include <csignal>
#include <optional>

namespace spikefloss {

// Shared with the answering thread, so that the end of a run does not wait for that thread.
struct LiveServer::Work {
    Socket listener;
    std::optional<LiveSite> site;
    std::optional<HttpServer> http;
};

LiveServer::LiveServer(const ServeConfig& config, std::string token, int other_ports)
    : config_(config), token_(std::move(token)), work_(std::make_shared<Work>()) {
    work_->listener = listen_at(config_.address, config_.port, other_ports);
}

void LiveServer::start(const std::string& directory, std::int64_t first, std::int64_t total, int ranks) {
    at(first, position_->floss_step);
    const auto began = std::chrono::steady_clock::now();
    work_->site.emplace(token_, directory, [position = position_, began, first, total, ranks] {
        LiveStatus status{position->step, position->floss_step, total, ranks, -1.0};
        if (status.step > first)
            status.seconds_left = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() /
                                  static_cast<double>(status.step - first) * static_cast<double>(total - status.step);
        return status;
    });
    work_->http.emplace(std::move(work_->listener),
                        [work = work_.get()](const HttpRequest& request) { return work->site->answer(request); });
    // Signals are for the thread that trains.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::promise<void> end;
    ended_ = end.get_future();
    thread_ = std::thread([work = work_, end = std::move(end)]() mutable {
        work->http->run();
        end.set_value();
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LiveServer::~LiveServer() {
    if (!thread_.joinable()) return;
    work_->http->stop();
    // The thread may wait for a file system that does not respond.
    if (ended_.wait_for(std::chrono::milliseconds(800)) == std::future_status::ready)
        thread_.join();
    else
        thread_.detach();
}

std::string LiveServer::address() const { return url_of(config_.address, config_.port); }

}  // namespace spikefloss
