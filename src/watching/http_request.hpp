// Parses a request to the live page from the bytes received until now: the part of RFC 9112 that GET and HEAD need. The
// results of these functions depend on their arguments only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace spikefloss {

struct HttpRequest {
    std::string method;         // GET or HEAD
    std::string path, query;    // as they were sent: /data and a=1&b=2
    std::string host;           // the header Host; "" without one
    std::string authorization;  // the header Authorization
};

struct ParsedRequest {
    int status = 0;  // 0: incomplete; 200: complete; else the status of the refusal
    HttpRequest request;
};

// Request line and headers may have this many bytes. A body is never read.
inline constexpr std::size_t most_request_bytes = 16384;

// What follows the empty line at the end of the headers, a body or another request, is ignored. Statuses: 400 not HTTP,
// or ambiguous; 405 another method; 431 too long; 505 another version.
ParsedRequest parse_request(std::string_view bytes);

// The first value of a name in a query, decoded; "" without one.
std::string query_value(std::string_view query, std::string_view name);

// Whether a header Host names this machine: localhost, 127.x.x.x or [::1], with or without a port.
bool is_local_host(std::string_view host);

// Takes the same time for every wrong text of the right length.
bool same_secret(std::string_view a, std::string_view b);

}  // namespace spikefloss
