// The run's records, one JSON object a line: metrics.jsonl and diagnostics.jsonl in the run directory, written by rank
// 0; and the spikes of one sequence, raster.json, written again with every line of diagnostics.
//
// A checkpoint has the number of records up to its step. The records are on the disk before the checkpoint gets its
// name, so no crash leaves a checkpoint without them. If records are lost in another way, a message says so.
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

// The content of a file of records up to a position.
struct RecordsFound {
    std::int64_t count = 0;
    std::int64_t damaged = 0;     // lines that are no records
    std::string text;             // the records, a line each
    Position last{-1, -1};        // of the last record
    Position gap_begin, gap_end;  // the widest gap: between these two
};
RecordsFound find_records(const std::string& path, RecordKind kind, const Position& until);
// "30 of 40 records are missing from metrics.jsonl; the widest gap is between steps 10 and 40"; "" if none is missing.
std::string missing_text(const std::string& path, const RecordsFound& found, std::int64_t expected);

// A file of JSON lines for appending. Only rank 0 makes one. All functions throw Error(Exit::storage).
class JsonLines {
public:
    // Opens `path`. resumed: drops records of an earlier session beyond this position and lines that are no records, so
    // that the file of a resumed run equals that of an uninterrupted run. expected: the number of records up to there,
    // if it is known. Without a position the file is new; an existing file is kept as NAME.1.jsonl or the next free
    // number.
    JsonLines(std::string path, RecordKind kind, const std::optional<Position>& resumed = std::nullopt,
              std::optional<std::int64_t> expected = std::nullopt);
    ~JsonLines();
    JsonLines(const JsonLines&) = delete;
    JsonLines& operator=(const JsonLines&) = delete;

    // A line is written whole or not at all (a full disk).
    void write(const std::string& line);
    // Flushes the file to the disk. It is also an error if the file has been removed or replaced.
    void sync();
    // The number of records in the file, including missing ones.
    std::int64_t count() const { return count_; }
    // Position of the last record that was kept from an earlier session; (-1, -1) without one.
    const Position& last_kept() const { return last_kept_; }
    // Remarks on the file of an earlier session, a line each: records missing, lines dropped, a file kept aside.
    const std::vector<std::string>& remarks() const { return remarks_; }

private:
    std::string path_;
    int file_ = -1;
    std::int64_t size_ = 0, count_ = 0;
    Position last_kept_{-1, -1};
    std::vector<std::string> remarks_;
};

// The data of one line of metrics.jsonl, since the last report.
struct MetricsEntry {
    StepReport report;
    std::int64_t floss_step = 0;
    double running_accuracy = 0.0;
    double seconds = 0.0;               // of the run
    double flossing_seconds = 0.0;      // of these, in flossing
    double sequences_per_second = 0.0;  // since the last report
    double data_seconds_share = 0.0;    // of the time since then, until batches were there
    std::optional<Outcome> test = {}, validation = {};
    std::int64_t best_step = -1;  // of the network that is best on validation data so far, if it is kept
};

// ", R^2 0.9312", or "" for an outcome without it.
std::string r2_text(const Outcome& outcome);
// "test accuracy 93.25 %", or the loss if it has no accuracy. data: "test".
std::string score_text(const char* data, const Outcome& outcome);
std::string metrics_line(const MetricsEntry& entry);
// norms: those of the training step before; null at the start of a run.
std::string diagnostics_line(std::int64_t step, std::int64_t floss_step, const Diagnosis& diagnosis,
                             const GradientNorms* norms);

// How many answers to the sequences of a group are right.
struct GroupScore {
    std::int64_t group = 0;
    std::string name;      // "" if the data have none
    bool trained = false;  // whether the group has training sequences, too
    std::int64_t sequences = 0, right = 0;
};
// By ascending group. The answers may be to the first sequences only.
std::vector<GroupScore> group_scores(const Grouping& groups, const Answers& answers);

// The content of confusion.json. step: of the network; data: "test" or "validation"; names of the O classes; left out
// if there is not one for each.
std::string confusion_text(std::int64_t step, const char* data, const std::vector<std::string>& names, Index O,
                           const Answers& answers, const Grouping& groups);

// The content of raster.json.
std::string raster_text(std::int64_t step, std::int64_t floss_step, const Raster& raster);

}  // namespace spikefloss
