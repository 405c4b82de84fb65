// The loop that answers requests, with visitors that are silent, drip, flood, never read or never end. There is no
// process and no training.
#include "watching/http_server.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <ctime>
#include <optional>
#include <stdexcept>
#include <thread>

namespace spikefloss {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

const std::string request = "GET /here HTTP/1.1\r\nHost: localhost\r\n\r\n";

double seconds_since(Clock::time_point begun) { return std::chrono::duration<double>(Clock::now() - begun).count(); }

// Like the real limits, but shorter.
HttpLimits quick() {
    HttpLimits limits;
    limits.request = milliseconds(300);
    limits.sending = milliseconds(400);
    limits.share = 1.0;
    return limits;
}

class Served {
public:
    explicit Served(HttpLimits limits = quick(), HttpServer::Answer answer = {}) {
        Socket listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        place_.sin_family = AF_INET;
        place_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof place_;
        EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&place_), size), 0);
        EXPECT_EQ(::listen(listener.get(), 1024), 0);
        ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&place_), &size);
        if (!answer) answer = [](const HttpRequest& r) { return HttpResponse{200, "text/plain", r.path + "\n", {}}; };
        server_.emplace(std::move(listener), std::move(answer), limits);
        thread_ = std::thread([this] { server_->run(); });
    }
    ~Served() { end(); }
    // The time that the end takes.
    double end() {
        const auto begun = Clock::now();
        if (!thread_.joinable()) return 0.0;
        server_->stop();
        thread_.join();
        return seconds_since(begun);
    }
    Socket visit(const std::string& text = "") const {
        Socket visitor(::socket(AF_INET, SOCK_STREAM, 0));
        EXPECT_EQ(::connect(visitor.get(), reinterpret_cast<const sockaddr*>(&place_), sizeof place_), 0);
        if (!text.empty()) ::send(visitor.get(), text.data(), text.size(), MSG_NOSIGNAL);
        return visitor;
    }
    std::string ask(const std::string& text) const { return all_of(visit(text)); }

    // The data up to the end of the connection. A connection that is reset counts as closed.
    static std::string all_of(const Socket& visitor, milliseconds limit = milliseconds(5000)) {
        std::string text;
        const auto until = Clock::now() + limit;
        char piece[4096];
        while (Clock::now() < until) {
            pollfd place = {visitor.get(), POLLIN, 0};
            if (::poll(&place, 1, 50) == 0) continue;
            const ssize_t count = ::recv(visitor.get(), piece, sizeof piece, 0);
            if (count <= 0) return text;
            text.append(piece, static_cast<std::size_t>(count));
        }
        return text + "(still open)";
    }

private:
    sockaddr_in place_{};
    std::optional<HttpServer> server_;
    std::thread thread_;
};

TEST(HttpServer, answers_and_closes) {
    Served served;
    const std::string text = served.ask(request);
    EXPECT_EQ(text.substr(0, 17), "HTTP/1.1 200 OK\r\n");
    EXPECT_NE(text.find("\r\nContent-Length: 6\r\n"), std::string::npos);
    EXPECT_NE(text.find("\r\nConnection: close\r\n"), std::string::npos);
    for (const char* header :
         {"X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer", "Cache-Control: no-store"})
        EXPECT_NE(text.find(header), std::string::npos) << header;
    EXPECT_EQ(text.substr(text.size() - 10), "\r\n\r\n/here\n");
    const std::string head = served.ask("HEAD /here HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_NE(head.find("\r\nContent-Length: 6\r\n"), std::string::npos);
    EXPECT_EQ(head.substr(head.size() - 4), "\r\n\r\n");
    // One request per connection, and no body of any length.
    const std::string twice = served.ask(request + request);
    EXPECT_EQ(twice.find("HTTP/1.1", 1), std::string::npos);
    EXPECT_EQ(served.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\nabc").substr(0, 12),
              "HTTP/1.1 405");
    EXPECT_EQ(served.ask("rubbish\r\n").substr(0, 12), "HTTP/1.1 400");
    EXPECT_EQ(served.ask("GET /" + std::string(20000, 'a')).substr(0, 12), "HTTP/1.1 431");
}

TEST(HttpServer, a_request_in_pieces) {
    Served served;
    const Socket visitor = served.visit();
    for (const char c : request) ASSERT_EQ(::send(visitor.get(), &c, 1, MSG_NOSIGNAL), 1);
    EXPECT_EQ(Served::all_of(visitor).substr(0, 12), "HTTP/1.1 200");
}

TEST(HttpServer, what_an_answer_throws_is_status_500) {
    Served served(quick(), [](const HttpRequest&) -> HttpResponse { throw std::runtime_error("secret path"); });
    const std::string text = served.ask(request);
    EXPECT_EQ(text.substr(0, 12), "HTTP/1.1 500");
    EXPECT_EQ(text.find("secret"), std::string::npos);
}

// A byte from time to time does not prolong the request.
TEST(HttpServer, who_drips_is_cut_off) {
    Served served;
    const auto begun = Clock::now();
    const Socket visitor = served.visit("GET / HTTP/1.1\r\nX: ");
    while (seconds_since(begun) < 3.0 && ::send(visitor.get(), "a", 1, MSG_NOSIGNAL) == 1)
        std::this_thread::sleep_for(milliseconds(20));
    EXPECT_LT(seconds_since(begun), 2.0);  // 0.3 s, and half a second to read the answer
    const Socket silent = served.visit();
    EXPECT_EQ(Served::all_of(silent), "");
}

TEST(HttpServer, five_hundred_silent_ones_keep_nobody_out) {
    HttpLimits limits = quick();
    limits.request = milliseconds(60000);
    limits.share = 0.03;
    Served served(limits);
    std::vector<Socket> silent;
    for (int i = 0; i < 500; ++i) silent.push_back(served.visit(i % 2 ? "" : "GET / HTTP/1.1\r\n"));
    const auto begun = Clock::now();
    EXPECT_EQ(served.ask(request).substr(0, 12), "HTTP/1.1 200");
    EXPECT_LT(seconds_since(begun), 2.0);
    std::size_t open = 0;
    for (const Socket& visitor : silent) {
        pollfd place = {visitor.get(), POLLIN, 0};
        open += ::poll(&place, 1, 0) == 0;
    }
    EXPECT_LE(open, limits.connections);
    EXPECT_GT(open, 0u);
    EXPECT_LT(served.end(), 0.5);
}

// Answers that are not read take bounded memory, and end.
TEST(HttpServer, who_does_not_read_is_cut_off) {
    HttpLimits limits = quick();
    limits.pending_bytes = 20 << 20;
    int answers = 0;
    Served served(limits, [&](const HttpRequest&) {
        ++answers;
        return HttpResponse{200, "text/plain", std::string(16 << 20, 'a'), {}};
    });
    const auto begun = Clock::now();
    std::vector<Socket> visitors;
    for (int i = 0; i < 6; ++i) visitors.push_back(served.visit(request));
    std::this_thread::sleep_for(milliseconds(200));
    EXPECT_LT(served.end(), 0.5);
    EXPECT_LE(answers, 2);  // two of 16 MiB are more than 20
    EXPECT_LT(seconds_since(begun), 5.0);
    Served again(limits, [](const HttpRequest&) {
        return HttpResponse{200, "text/plain", std::string(16 << 20, 'a'), {}};
    });
    const Socket lazy = again.visit(request);
    std::this_thread::sleep_for(milliseconds(600));
    EXPECT_LT(Served::all_of(lazy).size(), std::size_t{16} << 20);
}

TEST(HttpServer, keeps_to_its_share_of_a_processor) {
    HttpLimits limits = quick();
    limits.share = 0.05;
    double used = 0.0;
    const auto processor = [] {
        timespec time{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    };
    Served served(limits, [&](const HttpRequest&) {
        const double begun = processor();
        while (processor() < begun + 0.02) {
        }
        used += processor() - begun;
        return HttpResponse{200, "text/plain", "", {}};
    });
    std::vector<std::thread> busy;
    const auto begun = Clock::now();
    for (int i = 0; i < 4; ++i)
        busy.emplace_back([&] {
            while (seconds_since(begun) < 1.0) served.ask(request);
        });
    for (std::thread& one : busy) one.join();
    served.end();
    // CPU time: the amount allowed at once, the share of the server, and one more answer.
    EXPECT_LT(used, 0.2 + 0.05 * seconds_since(begun) + 0.04);
    EXPECT_GT(used, 0.15);
}

}  // namespace
}  // namespace spikefloss
