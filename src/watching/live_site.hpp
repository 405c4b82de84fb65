// What the live page answers to which request, and to whom.
#pragma once

#include "watching/http_server.hpp"
#include "watching/prometheus_text.hpp"

#include <functional>
#include <optional>
#include <string>

namespace spikefloss {

// The answer to those who may not look; none for the others. With a token, those may who show it, in the query or in
// the header Authorization. Without one the address is reached from this machine only; then a page of another site in
// somebody's browser there must not (its requests carry that site's name in Host).
std::optional<HttpResponse> refusal(const HttpRequest& request, const std::string& token);

class LiveSite {
public:
    // status: where the run is at this moment.
    LiveSite(std::string token, const std::string& directory, std::function<LiveStatus()> status);

    // / the page, /data what it asks for later on, /metrics for Prometheus; 404 for any other path.
    HttpResponse answer(const HttpRequest& request);

private:
    std::string data(ReadUpTo from);

    std::string token_;
    RunRecords records_;
    std::function<LiveStatus()> status_;
};

}  // namespace spikefloss
