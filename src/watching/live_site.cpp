#include "watching/live_site.hpp"

#include "watching/page.hpp"

#include <fmt/format.h>

#include <cstdlib>

namespace spikefloss {
namespace {

std::size_t number_of(const HttpRequest& request, const char* name) {
    return static_cast<std::size_t>(std::strtoull(query_value(request.query, name).c_str(), nullptr, 10));
}

HttpResponse text_response(int status, std::string text) {
    return {status, "text/plain; charset=utf-8", std::move(text), {}};
}

}  // namespace

std::optional<HttpResponse> refusal(const HttpRequest& request, const std::string& token) {
    if (token.empty()) {
        if (is_local_host(request.host)) return std::nullopt;
        return text_response(403, "Use the name localhost, or give the run a token (serve.token_file).\n");
    }
    const bool in_query = same_secret(query_value(request.query, "token"), token);
    const bool in_header = same_secret(request.authorization, "Bearer " + token);
    if (in_query || in_header) return std::nullopt;
    HttpResponse response =
        text_response(401, "Show the token of this run: ?token=..., or the header Authorization: Bearer ...\n");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
}

LiveSite::LiveSite(std::string token, const std::string& directory, std::function<LiveStatus()> status)
    : token_(std::move(token)), records_(directory), status_(std::move(status)) {}

HttpResponse LiveSite::answer(const HttpRequest& request) {
    // The token is checked first, so that a visitor without it does not learn the paths.
    if (std::optional<HttpResponse> refused = refusal(request, token_)) return *refused;
    if (request.path == "/") {
        if (!has_charts()) return text_response(200, fmt::format("{}: {}\n", why_no_charts, what_gives_charts));
        HttpResponse response{200, "text/html; charset=utf-8", page_text(data({})), {}};
        response.headers.emplace_back("Content-Security-Policy", page_policy() + "; frame-ancestors 'none'");
        return response;
    }
    if (request.path == "/data")
        return {
            200,
            "application/json",
            data({number_of(request, "generation"), number_of(request, "metrics"), number_of(request, "diagnostics")}),
            {}};
    if (request.path == "/metrics") {
        if (!has_prometheus()) return text_response(501, "This build has no prometheus-cpp.\n");
        records_.read();
        return {200, "text/plain; version=0.0.4; charset=utf-8", prometheus_text(records_, status_()), {}};
    }
    return text_response(404, "The paths are /, /data and /metrics.\n");
}

std::string LiveSite::data(ReadUpTo from) {
    records_.read();
    const LiveStatus now = status_();
    RunRecords::Json json = {{"step", now.step}, {"floss_step", now.floss_step}, {"seconds_left", nullptr}};
    if (now.seconds_left >= 0.0) json["seconds_left"] = now.seconds_left;
    return records_.json(json, from);
}

}  // namespace spikefloss
