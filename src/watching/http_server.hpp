// Answers HTTP requests in one loop of poll(), in the thread that calls run(). Each visitor has a fixed number of
// seconds and bytes. All visitors together have a fixed number of connections and a fixed share of a processor:
//
//   limit                | value                 | effect
//   ---------------------|-----------------------|----------------------------------------------------------------
//   from accept          | 2 s                   | an incomplete request is answered with 408
//   request and headers  | 16 KiB                | 431
//   sending, in all      | 8 s                   | the connection is closed
//   connections          | 64, an eighth of      | the oldest one without a complete request is closed
//                        | RLIMIT_NOFILE at most |
//   answers not yet sent | 32 MiB                | the next answer waits
//   processor            | 3 % in the long run   | the loop rests, for at most 2 s at a time
//
// The body of a request is not read; a connection serves one request.
#pragma once

#include "watching/http_request.hpp"
#include "watching/socket.hpp"

#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

struct HttpResponse {
    int status = 200;
    std::string type = "text/plain; charset=utf-8", body;
    std::vector<std::pair<std::string, std::string>> headers;  // beyond those that every answer has
};

// The bytes of an answer; for HEAD only the headers.
std::string response_text(const HttpResponse& response, bool head);

struct HttpLimits {
    std::chrono::milliseconds request{2000}, sending{8000};
    std::size_t connections = 64, pending_bytes = std::size_t{32} << 20;
    double share = 0.03;  // of one processor
};

class HttpServer {
public:
    using Answer = std::function<HttpResponse(const HttpRequest&)>;

    // run() calls answer, one request at a time. An exception becomes status 500.
    HttpServer(Socket listener, Answer answer, HttpLimits limits = {});
    ~HttpServer();

    // Serves until stop(), then closes every connection.
    void run();
    // May be called from any thread.
    void stop();

private:
    using Clock = std::chrono::steady_clock;
    enum class State { reading, ready, sending, closing };
    struct Visitor {
        Socket socket;
        State state = State::reading;
        Clock::time_point deadline;
        std::string bytes;  // received bytes, then bytes to send
        std::size_t sent = 0;
        HttpRequest request;
    };

    bool wait();
    void accept_all();
    bool make_room();
    void read(Visitor& visitor);
    void send(Visitor& visitor);
    void respond(Visitor& visitor, const HttpResponse& response, bool head);
    void answer_next();
    void rest();

    Socket listener_, wake_;
    Answer answer_;
    HttpLimits limits_;
    std::list<Visitor> visitors_;      // the oldest first
    Clock::time_point accept_from_{};  // after a fault: not before this time
    std::size_t pending_ = 0;          // bytes of answers that are not sent
    double allowance_ = 0.0;           // seconds of a processor that may be used at once
    double processor_used_ = 0.0;
    Clock::time_point counted_{};
};

}  // namespace spikefloss
