// Serves by cpp-httplib.
#include "watching/live_server.hpp"

#include "config/schema.hpp"
#include "core/error.hpp"
#include "watching/page.hpp"
#include "watching/prometheus_text.hpp"

#include <httplib.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>
#include <thread>

namespace spikefloss {
namespace {

using Clock = std::chrono::steady_clock;

// The same time for every wrong token of the right length.
bool same(const std::string& a, const std::string& b) {
    if (a.size() != b.size()) return false;
    unsigned difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
    return difference == 0;
}

// What the system says against listening there: httplib does not tell.
std::string why_not(const std::string& address, const std::string& port) {
    addrinfo wanted{}, *found = nullptr;
    wanted.ai_socktype = SOCK_STREAM;
    if (const int fault = getaddrinfo(address.c_str(), port.c_str(), &wanted, &found)) return gai_strerror(fault);
    const int yes = 1, place = ::socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (place >= 0) setsockopt(place, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const bool bound = place >= 0 && ::bind(place, found->ai_addr, found->ai_addrlen) == 0 && ::listen(place, 1) == 0;
    const std::string reason = bound ? "it did not work at first, but would now" : std::strerror(errno);
    if (place >= 0) ::close(place);
    freeaddrinfo(found);
    return reason;
}

std::size_t number_of(const httplib::Request& request, const char* name) {
    return static_cast<std::size_t>(std::strtoull(request.get_param_value(name).c_str(), nullptr, 10));
}

}  // namespace

struct LiveServer::Work {
    httplib::Server http;
    std::thread listener;
    std::atomic<bool> ended = false;

    std::mutex mutex;  // of what follows: answers are made one at a time
    std::optional<RunRecords> records;
    std::int64_t first = 0, total = 0;
    int ranks = 1;
    Clock::time_point began;

    LiveStatus status(const LivePosition& position) const {
        LiveStatus status{position.step, position.floss_step, total, ranks, -1.0};
        if (status.step > first)
            status.seconds_left = std::chrono::duration<double>(Clock::now() - began).count() /
                                  static_cast<double>(status.step - first) * static_cast<double>(total - status.step);
        return status;
    }
    std::string data(const LivePosition& position, ReadUpTo from) {
        const std::lock_guard lock(mutex);
        records->read();
        const LiveStatus now = status(position);
        RunRecords::Json json = {{"step", now.step}, {"floss_step", now.floss_step}, {"seconds_left", nullptr}};
        if (now.seconds_left >= 0.0) json["seconds_left"] = now.seconds_left;
        return records->json(json, from);
    }
    std::string metrics(const LivePosition& position) {
        const std::lock_guard lock(mutex);
        records->read();
        return prometheus_text(*records, status(position));
    }
};

namespace {

// Who may look: with a token, those who show it. Without one the address is reached from this machine only; then a page
// of another site in somebody's browser there must not (its requests carry the site's name).
bool admitted(const ServeConfig& config, const httplib::Request& request, httplib::Response& response) {
    if (config.token.empty()) {
        const std::string host = request.get_header_value("Host");
        const std::string name = host.substr(0, host[0] == '[' ? host.find(']') + 1 : host.find(':'));
        if (name == "[::1]" || is_loopback(name) || name.empty()) return true;
        response.status = 403;
        response.set_content("Reach this by the name localhost, or set serve.token.\n", "text/plain");
        return false;
    }
    const std::string bearer = request.get_header_value("Authorization");
    if (same(request.get_param_value("token"), config.token) || same(bearer, "Bearer " + config.token)) return true;
    response.status = 401;
    response.set_header("WWW-Authenticate", "Bearer");
    response.set_content("Show the token of this run: ?token=..., or the header Authorization: Bearer ...\n",
                         "text/plain");
    return false;
}

void set_up(httplib::Server& http) {
    http.new_task_queue = [] { return new httplib::ThreadPool(2); };
    // Nobody shall hold a thread, or the end of the run, for long.
    http.set_keep_alive_max_count(1);
    http.set_read_timeout(1);
    http.set_write_timeout(2);
    http.set_payload_max_length(1 << 16);
    // By default two programs could listen at one port, each getting some of the visitors.
    http.set_socket_options([](socket_t socket) {
        const int yes = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    http.set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
}

}  // namespace

LiveServer::LiveServer(const ServeConfig& config) : config_(config), work_(std::make_unique<Work>()) {
    httplib::Server& http = work_->http;
    set_up(http);
    require(http.bind_to_port(config_.address, static_cast<int>(config_.port)), Exit::usage,
            fmt::format("cannot listen at serve.address = \"{}\", serve.port = {}: {}", config_.address, config_.port,
                        why_not(config_.address, std::to_string(config_.port))),
            "choose another port (--set serve.port=...), or 0 to serve nothing");
    const auto serve = [&](const char* path, const char* type, auto answer) {
        http.Get(path, [this, type, answer](const httplib::Request& request, httplib::Response& response) {
            if (admitted(config_, request, response)) response.set_content(answer(request), type);
        });
    };
    Work& work = *work_;
    const LivePosition& position = *position_;
    serve("/", "text/html; charset=utf-8", [&work, &position](const httplib::Request&) {
        return has_charts() ? page_text(work.data(position, {}))
                            : fmt::format("{}: {}\n", why_no_charts, what_gives_charts);
    });
    serve("/data", "application/json", [&work, &position](const httplib::Request& request) {
        return work.data(position, {number_of(request, "generation"), number_of(request, "metrics"),
                                    number_of(request, "diagnostics")});
    });
    serve("/metrics", "text/plain; version=0.0.4; charset=utf-8",
          [&work, &position](const httplib::Request&) { return work.metrics(position); });
}

void LiveServer::start(const std::string& directory, std::int64_t first, std::int64_t total, int ranks) {
    work_->records.emplace(directory);
    work_->first = first, work_->total = total, work_->ranks = ranks;
    work_->began = Clock::now();
    at(first, position_->floss_step);
    // Signals are for the thread that trains.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    work_->listener = std::thread([work = work_.get()] {
        work->http.listen_after_bind();
        work->ended = true;
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LiveServer::~LiveServer() {
    if (!work_->listener.joinable()) return;
    while (!work_->http.is_running() && !work_->ended) std::this_thread::yield();
    work_->http.stop();
    work_->listener.join();
}

std::string LiveServer::address() const { return fmt::format("http://{}:{}/", config_.address, config_.port); }

}  // namespace spikefloss
