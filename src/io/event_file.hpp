// Records for TensorBoard: an event file, that is TFRecords of protocol buffers (tensorflow.Event). Only the few fields
// that are needed are written, by hand; their numbers are those of event.proto and summary.proto.
#pragma once

#include "io/histogram.hpp"

#include <cstdint>
#include <fstream>
#include <string>

namespace spikefloss {

class EventFile {
public:
    // Starts a new file in `folder`, which is made. Throws Error(Exit::storage), as all of it.
    explicit EventFile(const std::string& folder);

    // The numbers of a line of metrics.jsonl as "training/loss", "training/gradient_norms/w_rec",
    // "flossing/exponents/1"; of one of diagnostics.jsonl, which has no kind, as "diagnostics/...". At the training
    // step for training and diagnostics, at the flossing step for flossing. Lists but the exponents are left out.
    void add_line(const std::string& line);
    void add(std::int64_t step, const std::string& tag, const Histogram& histogram);
    // Flushes what was written to the disk.
    void sync();

private:
    void write(std::int64_t step, const std::string& summary);
    void write_record(const std::string& data);

    std::string path_;
    std::ofstream file_;
};

}  // namespace spikefloss
