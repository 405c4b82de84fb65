// The records of a run, read from its directory and kept up to date during the run. The page and /metrics show them.
#pragma once

#include "io/record.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace spikefloss {

// Keeps at most `most` of the added items, evenly spaced from the first one, and the newest.
template <class T>
class Thinned {
public:
    explicit Thinned(std::size_t most) : most_(most) {}

    void add(T value) {
        if (added_++ % every_ == 0) kept_.push_back(value);
        newest_ = std::move(value);
        if (kept_.size() <= most_) return;
        for (std::size_t i = 1; 2 * i < kept_.size(); ++i) kept_[i] = std::move(kept_[2 * i]);
        kept_.resize((kept_.size() + 1) / 2);
        every_ *= 2;
    }
    const std::vector<T>& kept() const { return kept_; }
    const T& newest() const { return newest_; }
    std::size_t added() const { return added_; }
    std::size_t every() const { return every_; }
    bool newest_is_kept() const { return added_ > 0 && (added_ - 1) % every_ == 0; }

private:
    std::size_t most_, every_ = 1, added_ = 0;
    std::vector<T> kept_;
    T newest_{};
};

// The position up to which a reader has read. In another generation it reads from the start.
struct ReadUpTo {
    std::size_t generation = 0, metrics = 0, diagnostics = 0;
};

class RunRecords {
public:
    using Json = nlohmann::ordered_json;

    explicit RunRecords(std::string directory);

    // Reads the data written since the last call. A line that is no record is skipped and counted. A last line without
    // an end is incomplete; the next call reads it.
    void read();

    // Records of either file.
    std::size_t count() const { return metrics_.added() + diagnostics_.added(); }
    // A text about data that could not be read: lines of either file, raster.json, confusion.json,
    // session.json; or "".
    std::string damage() const;
    // The newest line of its kind, null before the first.
    const Json& training() const { return training_; }
    const Json& flossing() const { return flossing_; }
    const Json& diagnosis() const { return diagnosis_; }
    const Json& test() const { return test_; }  // a training line with a test in it
    const Json& validation() const { return validation_; }

    // One JSON object with everything the page shows. status: the progress of a live run, otherwise null.
    std::string json(const Json& status, ReadUpTo from = {});

private:
    // One of the files of lines, the length read so far, and the number of lines that were no records.
    struct Tail {
        std::string path;
        RecordKind kind;
        std::int64_t offset = 0;
        std::size_t damaged = 0;
    };
    // A small file that is written as a whole, and what was in it when it had this size and time.
    struct Whole {
        std::string path;
        std::optional<Json> (*reader)(std::string_view text);
        std::pair<std::uintmax_t, std::filesystem::file_time_type> seen;
        bool damaged = false;
        std::string json = "null";
    };
    template <class Function>
    void read_lines(Tail& tail, Function&& function);
    static void read_whole(Whole& whole);
    void forget();

    static constexpr std::size_t most_lines = 20000, most_lags = 12;

    std::string directory_;
    Tail metrics_file_, diagnostics_file_;
    Whole session_file_, raster_file_, confusion_file_;
    std::size_t generation_ = 1;
    Thinned<std::string> metrics_{most_lines}, diagnostics_{most_lines};  // as the page gets them
    Thinned<std::string> lags_{most_lags};
    Json training_, flossing_, diagnosis_, test_, validation_;
    std::string settings_;  // the part of the page's JSON that is from config.toml, which a session does not change
};

}  // namespace spikefloss
