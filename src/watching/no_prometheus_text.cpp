// Replaces prometheus_text.cpp in a build without prometheus-cpp.
#include "watching/prometheus_text.hpp"

namespace spikefloss {

bool has_prometheus() { return false; }
std::string prometheus_text(const RunRecords&, const LiveStatus&) { return ""; }

}  // namespace spikefloss
