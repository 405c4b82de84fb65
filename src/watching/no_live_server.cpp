// In place of live_server.cpp and prometheus_text.cpp in a build without their libraries: who asks to serve is told.
#include "core/error.hpp"
#include "watching/live_server.hpp"

namespace spikefloss {

struct LiveServer::Work {};

LiveServer::LiveServer(const ServeConfig& config) : config_(config) {
    throw Error(Exit::usage,
                fmt::format("serve.port = {}, but this build cannot serve: cpp-httplib or prometheus-cpp was not found "
                            "when it was configured",
                            config.port),
                "install libcpp-httplib-dev and prometheus-cpp-dev and build again, or set serve.port = 0; spikefloss "
                "report shows a run that goes on, too");
}
LiveServer::~LiveServer() = default;
void LiveServer::start(const std::string&, std::int64_t, std::int64_t, int) {}
std::string LiveServer::address() const { return ""; }

}  // namespace spikefloss
