// The bytes are what a visitor of the live page sends, whole or in part.
#include "fuzz/fuzz.hpp"
#include "watching/http_request.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string text = fuzz::text_of(data, size);
    fuzz::read_or_refuse([&] {
        const ParsedRequest parsed = parse_request(text);
        if (parsed.status == 0 && text.size() > most_request_bytes) std::abort();  // waits beyond the limit
        // Bytes after a refused or a complete request do not change its status.
        if (parsed.status != 0 && parse_request(text + "GET /other HTTP/1.1\r\n\r\n").status != parsed.status)
            std::abort();
        if (parsed.status != 200) return;
        if (parsed.request.method != "GET" && parsed.request.method != "HEAD") std::abort();
        query_value(parsed.request.query, "token");
        is_local_host(parsed.request.host);
    });
    is_local_host(text);
    query_value(text, "a");
    return 0;
}
