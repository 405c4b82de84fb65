// The run's records, one JSON object a line: metrics.jsonl and diagnostics.jsonl in the run directory, written by rank 0;
// and the spikes of one sequence, raster.json, written anew with every line of diagnostics.
#pragma once

#include "train/trainer.hpp"

#include <fstream>
#include <optional>
#include <string>
#include <utility>

namespace spikefloss {

// A file of JSON lines to append to. Only rank 0 makes one.
class JsonLines {
public:
    // Opens `path`; lines of an earlier session that lie beyond (step, floss_step) are dropped, so that a resumed run's
    // record is that of one uninterrupted run. step = -1 drops all. Throws Error(Exit::storage).
    JsonLines(std::string path, std::int64_t step, std::int64_t floss_step);
    // Throws Error(Exit::storage) when the line cannot be written, on a full disk for instance.
    void write(const std::string& line);
    // (step, floss_step) of the last line that was kept from an earlier session; (-1, -1) without one.
    std::pair<std::int64_t, std::int64_t> last_kept() const { return last_kept_; }

private:
    std::string path_;
    std::ofstream file_;
    std::pair<std::int64_t, std::int64_t> last_kept_{-1, -1};
};

// What has happened since the last report, for one line of metrics.jsonl.
struct MetricsEntry {
    StepReport report;
    std::int64_t floss_step = 0;
    double running_accuracy = 0.0;
    double seconds = 0.0;               // of the run so far
    double flossing_seconds = 0.0;      // of them, in flossing
    double sequences_per_second = 0.0;  // since the last report
    std::optional<Outcome> test;
};

std::string metrics_line(const MetricsEntry& entry);
// norms: those of the training step before; null at the start of a run, which has none.
std::string diagnostics_line(std::int64_t step, std::int64_t floss_step, const Diagnosis& diagnosis,
                             const GradientNorms* norms);

// The content of raster.json.
std::string raster_text(std::int64_t step, std::int64_t floss_step, const Raster& raster);

}  // namespace spikefloss
