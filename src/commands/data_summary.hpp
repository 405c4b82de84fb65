// What is in a file of sequences (docs/data.md): numbers, and a page with pictures.
#pragma once

#include "sequences/sequence_file.hpp"

#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

// The command `data`, like those of commands.hpp.
struct DataCommand {
    std::string file, html;  // "": no page
    double dt = 1.0;         // ms
    TimeUnit time_unit = TimeUnit::automatic;
    bool overwrite = false;  // any file, not only such a page
};

int data(const ProcessGrid& everyone, const DataCommand& command);

struct DataSummary {
    // Smallest, median and largest.
    struct Range {
        double least = 0.0, median = 0.0, most = 0.0;
    };
    struct Class {
        std::string name;
        Index count = 0;
        Index first = -1;  // its first sequence; -1: it has none
    };
    std::string path;
    bool events = false, labels = false;
    Index sequences = 0, channels = 0, outputs = 0;
    Range steps;                                        // of a sequence
    Range size;                                         // events of a sequence, or the sum of its x
    std::vector<double> rates;                          // [channels] events per second, or the mean of x per step
    std::vector<Class> classes;                         // [outputs]; without labels, the first sequences
    std::vector<std::pair<std::string, Index>> groups;  // name and number of sequences, of extra/speaker
    std::vector<std::string> remarks;                   // warnings
};

DataSummary summary_of(const SequenceFile& file, double dt);

// One HTML file without scripts: the rate of each channel, and one sequence of each class. dt in ms.
std::string data_page(const DataSummary& summary, const SequenceFile& file, double dt);
// Whether a file is such a page.
bool is_data_page(const std::string& path);

}  // namespace spikefloss
