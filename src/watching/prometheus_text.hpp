// A run in the text format of Prometheus (docs/watching.md lists the names).
#pragma once

#include "watching/run_records.hpp"

#include <string>

namespace spikefloss {

// The state that only the running program has.
struct LiveStatus {
    std::int64_t step = 0, floss_step = 0, total = 0;
    int ranks = 1;
    double seconds_left = 0.0;  // below 0: not known yet
};

// Whether this build has prometheus-cpp; without it the text is empty.
bool has_prometheus();
std::string prometheus_text(const RunRecords& records, const LiveStatus& status);

}  // namespace spikefloss
