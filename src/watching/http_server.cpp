#include "watching/http_server.hpp"

#include <fmt/format.h>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>

namespace spikefloss {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds closing_time(500);      // for more data of the visitor; an early close would discard the answer
constexpr std::size_t most_ignored = 1 << 16;  // bytes of these data
constexpr double burst = 0.2, longest_rest = 2.0;

const char* reason_of(int status) {
    switch (status) {
        case 200: return "OK";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 408: return "Request Timeout";
        case 431: return "Request Header Fields Too Large";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 505: return "HTTP Version Not Supported";
        default: return "Status";
    }
}

HttpResponse refusal(int status) {
    HttpResponse response{status, "text/plain; charset=utf-8", std::string(reason_of(status)) + "\n", {}};
    if (status == 405) response.headers.emplace_back("Allow", "GET, HEAD");
    return response;
}

double processor_seconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Training needs most of the descriptors that the process may have.
std::size_t most_connections(std::size_t asked) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return asked;
    return std::clamp<std::size_t>(limit.rlim_cur / 8, 1, asked);
}

}  // namespace

std::string response_text(const HttpResponse& response, bool head) {
    std::string text = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: "
        "same-origin\r\n",
        response.status, reason_of(response.status), response.type, response.body.size());
    for (const auto& [name, value] : response.headers) text += fmt::format("{}: {}\r\n", name, value);
    return text + "\r\n" + (head ? "" : response.body);
}

HttpServer::HttpServer(Socket listener, Answer answer, HttpLimits limits)
    : listener_(std::move(listener)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      answer_(std::move(answer)),
      limits_(limits) {
    limits_.connections = most_connections(limits.connections);
}

HttpServer::~HttpServer() = default;

void HttpServer::stop() { eventfd_write(wake_.get(), 1); }

void HttpServer::run() {
    processor_used_ = processor_seconds();
    counted_ = Clock::now();
    allowance_ = burst;
    while (wait()) {
        accept_all();
        answer_next();
        const auto now = Clock::now();
        for (Visitor& visitor : visitors_) {
            if (!visitor.socket || now < visitor.deadline) continue;
            if (visitor.state == State::reading && !visitor.bytes.empty())
                respond(visitor, refusal(408), false);
            else
                visitor.socket = Socket();
        }
        visitors_.remove_if([this](const Visitor& visitor) {
            if (!visitor.socket && visitor.state == State::sending) pending_ -= visitor.bytes.size();
            return !visitor.socket;
        });
        rest();
    }
    visitors_.clear();
    listener_ = Socket();
}

// Waits for work, then reads and sends. False after stop() was called.
bool HttpServer::wait() {
    const auto now = Clock::now();
    auto until = now + std::chrono::hours(1);
    std::vector<pollfd> places = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    if (now < accept_from_) places[1].fd = -1, until = std::min(until, accept_from_);
    for (Visitor& visitor : visitors_) {
        const bool waits = visitor.state == State::ready;
        if (waits && pending_ < limits_.pending_bytes) until = now;
        if (!waits) until = std::min(until, visitor.deadline);
        places.push_back({waits ? -1 : visitor.socket.get(),
                          static_cast<short>(visitor.state == State::sending ? POLLOUT : POLLIN), 0});
    }
    const auto left = std::chrono::ceil<milliseconds>(until - now).count();
    ::poll(places.data(), places.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (places[0].revents) return false;
    std::size_t at = 2;
    for (Visitor& visitor : visitors_) {
        if (!places[at++].revents) continue;
        if (visitor.state == State::sending)
            send(visitor);
        else
            read(visitor);
    }
    return true;
}

void HttpServer::accept_all() {
    for (std::size_t count = 0; count < limits_.connections && Clock::now() >= accept_from_; ++count) {
        Socket socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!socket) {
            // Without descriptors or memory the visitor stays in the queue, and poll() would always return at once.
            const bool faulty = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            if (faulty) accept_from_ = Clock::now() + milliseconds(100);
            return;
        }
        if (visitors_.size() >= limits_.connections && !make_room()) continue;
        Visitor& visitor = visitors_.emplace_back();
        visitor.socket = std::move(socket);
        visitor.deadline = Clock::now() + limits_.request;
        read(visitor);  // most requests arrive with the connection
    }
}

// Closes the oldest connection without a complete request.
bool HttpServer::make_room() {
    const auto oldest = std::find_if(visitors_.begin(), visitors_.end(), [](const Visitor& visitor) {
        return visitor.state == State::reading || visitor.state == State::closing;
    });
    if (oldest == visitors_.end()) return false;
    visitors_.erase(oldest);
    return true;
}

void HttpServer::read(Visitor& visitor) {
    char piece[4096];
    const ssize_t count = ::recv(visitor.socket.get(), piece, sizeof piece, 0);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (count <= 0) {
        visitor.socket = Socket();
    } else if (visitor.state == State::closing) {
        visitor.sent += static_cast<std::size_t>(count);
        if (visitor.sent > most_ignored) visitor.socket = Socket();
    } else {
        const std::string_view more(piece, static_cast<std::size_t>(count));
        visitor.bytes += more;
        // Only the end of a line can change the result.
        if (more.find('\n') == std::string_view::npos && visitor.bytes.size() < most_request_bytes) return;
        ParsedRequest parsed = parse_request(visitor.bytes);
        if (parsed.status == 0) return;
        if (parsed.status != 200) return respond(visitor, refusal(parsed.status), false);
        visitor.request = std::move(parsed.request);
        visitor.state = State::ready;
        visitor.deadline = Clock::time_point::max();
    }
}

void HttpServer::respond(Visitor& visitor, const HttpResponse& response, bool head) {
    visitor.bytes = response_text(response, head);
    visitor.sent = 0;
    visitor.state = State::sending;
    visitor.deadline = Clock::now() + limits_.sending;
    pending_ += visitor.bytes.size();
    send(visitor);
}

void HttpServer::send(Visitor& visitor) {
    const ssize_t count = ::send(visitor.socket.get(), visitor.bytes.data() + visitor.sent,
                                 visitor.bytes.size() - visitor.sent, MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (count < 0) {
        visitor.socket = Socket();
        return;
    }
    visitor.sent += static_cast<std::size_t>(count);
    if (visitor.sent < visitor.bytes.size()) return;
    pending_ -= visitor.bytes.size();
    ::shutdown(visitor.socket.get(), SHUT_WR);
    visitor.bytes = std::string();
    visitor.sent = 0;
    visitor.state = State::closing;
    visitor.deadline = Clock::now() + closing_time;
}

// Answers the whole request of the oldest connection that has one.
void HttpServer::answer_next() {
    if (pending_ >= limits_.pending_bytes) return;
    const auto next = std::find_if(visitors_.begin(), visitors_.end(),
                                   [](const Visitor& visitor) { return visitor.state == State::ready; });
    if (next == visitors_.end()) return;
    HttpResponse response;
    try {
        response = answer_(next->request);
    } catch (const std::exception&) {
        response = refusal(500);
    }
    respond(*next, response, next->request.method == "HEAD");
}

// Limits the loop to its share of a processor, for any number of requests.
void HttpServer::rest() {
    const double used = processor_seconds();
    const auto now = Clock::now();
    allowance_ += limits_.share * std::chrono::duration<double>(now - counted_).count() - (used - processor_used_);
    allowance_ = std::clamp(allowance_, -longest_rest * limits_.share, burst);
    processor_used_ = used;
    counted_ = now;
    if (allowance_ >= 0.0) return;
    pollfd place = {wake_.get(), POLLIN, 0};
    ::poll(&place, 1, static_cast<int>(-allowance_ / limits_.share * 1000.0) + 1);
}

}  // namespace spikefloss
