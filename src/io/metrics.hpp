// The run's records, one JSON object a line: metrics.jsonl and diagnostics.jsonl in the run directory, written by rank
// 0; and the spikes of one sequence, raster.json, written anew with every line of diagnostics.
//
// A checkpoint says how many records there are up to its step. They are on the disk before it gets its name, so that no
// crash leaves a checkpoint without them; what was lost by other ways is missed, and told.
#pragma once

#include "io/record.hpp"
#include "train/trainer.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

// (training step, flossing step)
using Position = std::pair<std::int64_t, std::int64_t>;

// What a file of records holds up to a position.
struct RecordsFound {
    std::int64_t count = 0;
    std::int64_t damaged = 0;     // lines that are no records
    std::string text;             // the records, a line each
    Position last{-1, -1};        // of the last record
    Position gap_begin, gap_end;  // the widest stretch without records: between these two
};
RecordsFound find_records(const std::string& path, RecordKind kind, const Position& until);
// "30 of 40 records are missing from metrics.jsonl; the widest gap is between steps 10 and 40"; "" when none is
// missing.
std::string missing_text(const std::string& path, const RecordsFound& found, std::int64_t expected);

// A file of JSON lines to append to. Only rank 0 makes one. All of it throws Error(Exit::storage).
class JsonLines {
public:
    // Opens `path`. resumed: records of an earlier session beyond this position are dropped, and so are lines that are
    // no records, so that a resumed run's record is that of one uninterrupted run; expected: how many there should be,
    // if that is known. Without a position the file is a new one; one that is there is kept as NAME.1.jsonl or the next
    // free number.
    JsonLines(std::string path, RecordKind kind, const std::optional<Position>& resumed = std::nullopt,
              std::optional<std::int64_t> expected = std::nullopt);
    ~JsonLines();
    JsonLines(const JsonLines&) = delete;
    JsonLines& operator=(const JsonLines&) = delete;

    // A line is written whole or not at all (a full disk).
    void write(const std::string& line);
    // Flushes what was written to the disk. An error, too, when the file has been removed or replaced.
    void sync();
    // Records that the file has, or should have where some are missing.
    std::int64_t count() const { return count_; }
    // Position of the last record that was kept from an earlier session; (-1, -1) without one.
    const Position& last_kept() const { return last_kept_; }
    // What is odd about the file of an earlier session, a line each: records missing, lines dropped, a file kept aside.
    const std::vector<std::string>& remarks() const { return remarks_; }

private:
    std::string path_;
    int file_ = -1;
    std::int64_t size_ = 0, count_ = 0;
    Position last_kept_{-1, -1};
    std::vector<std::string> remarks_;
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
