// The answers of the live page to requests, and the check of visitors.
#pragma once

#include "watching/http_server.hpp"
#include "watching/prometheus_text.hpp"

#include <functional>
#include <optional>
#include <string>

namespace spikefloss {

// The refusal of a visitor without access; none for other visitors. With a token, visitors must show it in the query or
// in the header Authorization. Without a token, only this machine can reach the address. Then the page of another site
// in a browser on this machine has no access (its requests have the name of that site in Host).
std::optional<HttpResponse> refusal(const HttpRequest& request, const std::string& token);

class LiveSite {
public:
    // status: the present progress of the run.
    LiveSite(std::string token, const std::string& directory, std::function<LiveStatus()> status);

    // / is the page, /data has its updates, /metrics is for Prometheus; 404 for any other path.
    HttpResponse answer(const HttpRequest& request);

private:
    std::string data(ReadUpTo from);

    std::string token_;
    RunRecords records_;
    std::function<LiveStatus()> status_;
};

}  // namespace spikefloss
