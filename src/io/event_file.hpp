// Records for TensorBoard: an event file of TFRecords with protocol buffers (tensorflow.Event). Only the necessary
// fields are written, without the protobuf library; their numbers are those of event.proto and summary.proto.
#pragma once

#include "io/histogram.hpp"

#include <cstdint>
#include <fstream>
#include <string>

namespace spikefloss {

class EventFile {
public:
    // Starts a new file in `folder`, which it makes. All functions throw Error(Exit::storage).
    explicit EventFile(const std::string& folder);

    // Writes the numbers of a line of metrics.jsonl as "training/loss", "training/gradient_norms/w_rec",
    // "flossing/exponents/1"; those of a line of diagnostics.jsonl, which has no kind, as "diagnostics/...". The step
    // is the flossing step for flossing, else the training step. Lists other than exponents are left out.
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
