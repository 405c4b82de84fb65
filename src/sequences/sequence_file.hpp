// A file of sequences of users (docs/data.md): events in the layout of SHD, or a dense x, with labels or targets. All
// that is wrong in it is Error(Exit::bad_file) that names the file and the place.
#pragma once

#include "io/hdf5_file.hpp"
#include "tasks/task.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

class SequenceFile {
public:
    // Reads everything but a dense x of more than settings.memory.
    SequenceFile(const std::string& path, const TaskSettings& settings);

    const std::string& path() const { return file_->path(); }
    Index count() const { return static_cast<Index>(lengths_.size()); }  // n
    bool has_events() const { return events_; }
    // Whether nothing is read from the file any more: the events, or x and target, are in memory.
    bool in_memory() const { return in_memory(x_) && in_memory(target_); }
    Index channels() const { return channels_; }  // the largest of an event + 1, or M of x
    Index outputs() const { return outputs_; }    // the largest label + 1, or O of target
    bool has_labels() const { return !labels_.empty(); }
    Index longest() const;  // of the lengths, in steps
    // The number of steps of sequence i itself.
    Index length(Index i) const { return lengths_[static_cast<std::size_t>(i)]; }
    std::int32_t label(Index i) const { return labels_[static_cast<std::size_t>(i)]; }
    // The dataset "name" of one whole number for each sequence, or column c of "name[c]".
    std::vector<std::int64_t> groups(const std::string& text) const;
    // The strings of a dataset such as extra/keys, the names of the classes; none if there is no such dataset.
    std::vector<std::string> names(const std::string& name) const;
    bool contains(const std::string& name) const;
    // Whether the dataset has one whole number for each sequence.
    bool has_groups(const std::string& name) const;
    std::uint64_t digest() const { return digest_; }
    const std::vector<std::string>& remarks() const { return remarks_; }

    // Events of sequence i: its times in steps from its beginning, and its channels.
    struct Events {
        const float* time;
        const std::uint16_t* channel;
        Index count;
    };
    Events events(Index i) const;
    // The first `steps` rows [steps, M] of a dense x, or [steps, O] of the target; steps <= length(i).
    void read_x(Index i, Index steps, std::vector<float>& x) const { read_rows(x_, i, steps, x); }
    void read_target(Index i, Index steps, std::vector<float>& target) const { read_rows(target_, i, steps, target); }
    // Whether step t of sequence i counts for the loss as far as the file says.
    bool counts(Index i, Index t) const;

private:
    // A dense array [n, T, columns], or [T, n, columns] in the group /sequences.
    struct Rows {
        std::string name;
        Index columns = 0;
        std::vector<float> values =
            {};                // of all steps below the length of each sequence, or none if they stay in the file
        Hdf5Handle open = {};  // then the dataset, so that the library keeps chunks between reads
    };

    static bool in_memory(const Rows& rows) { return rows.columns == 0 || !rows.values.empty(); }
    bool has(const std::string& name) const { return file_->has(group_ + name); }
    void read_events(const TaskSettings& settings);
    void read_dense(const TaskSettings& settings);
    void read_lengths(Index steps);
    void read_mask(Index steps);
    void read_labels();
    void require_count(const std::string& name, const std::vector<Index>& shape) const;
    double time_unit(TimeUnit unit, double largest) const;
    void keep(Rows& rows, Index steps);
    void read_rows(const Rows& rows, Index i, Index steps, std::vector<float>& out) const;

    std::unique_ptr<InputFile> file_;
    std::string group_;        // "/" or "/sequences/"
    bool time_first_ = false;  // in the group /sequences
    bool events_ = false;
    Index channels_ = 0, outputs_ = 0;
    std::vector<Index> begin_;  // [n + 1] of each sequence among the events, or among the rows of x
    std::vector<float> time_;   // steps
    std::vector<std::uint16_t> channel_;
    Rows x_, target_;
    std::vector<Index> lengths_;
    std::vector<std::int32_t> labels_;
    std::vector<std::uint8_t> mask_;  // [T] or [n, T]; empty: all 1
    Index mask_steps_ = 0;
    std::uint64_t digest_ = 0;
    std::vector<std::string> remarks_;
};

}  // namespace spikefloss
