// A task generates or reads sequences with their targets. Everything is a function of global indices (seed, step,
// sequence, time), so ranks need not communicate and no result depends on the grid.
#pragma once

#include "core/choices.hpp"
#include "core/random.hpp"
#include "parallel/block_range.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

// A batch of sequences of one rank, in host memory.
struct Batch {
    Index steps = 0, sequences = 0, inputs = 0, outputs = 0;  // T, b, M, O
    LossKind loss = LossKind::binary_cross_entropy;
    std::vector<float> x;  // [T, b, M]
    // [T, b, spike_words(M)]: x as bits. Then x is empty, and all its numbers are 0 or 1.
    std::vector<std::uint32_t> x_bits;
    std::vector<float> mask;          // [T, b], 1 where the loss counts, else 0
    std::vector<float> target;        // [T, b, O], of 0 or 1 for binary cross-entropy
    std::vector<std::int32_t> label;  // [b], for a loss that takes labels

    // The number of loss terms of the first `counted` sequences: (steps with mask 1) O, or one of each sequence.
    Index terms(Index counted) const;
};

// The loss that is computed: `wanted`, or what the data mean (own) if that is automatic. Throws Error(Exit::usage) if
// the data have labels and the loss takes targets, or the reverse. `where` names the choice in the message.
LossKind chosen_loss(LossKind wanted, LossKind own, const std::string& where);

// The data that a sample is drawn from. They share no random numbers. `test` and `validation` share no sample with each
// other or with the rest.
enum class Purpose { train, test, floss, diagnose, validation };

// The group of each sequence of a data set, such as its speaker.
struct Grouping {
    std::string name;                   // of the dataset in the file; "" if there are no groups
    std::vector<std::int64_t> group;    // of each sequence, in the order of an evaluation
    std::vector<std::int64_t> trained;  // the groups that have training sequences, ascending
    std::vector<std::string> names;     // of the groups 0, 1, ..., or none
};

class Task {
public:
    virtual ~Task() = default;
    virtual Index steps() const = 0;    // T
    virtual Index inputs() const = 0;   // M
    virtual Index outputs() const = 0;  // O
    virtual LossKind loss() const = 0;  // what `auto` means
    // Number of distinct sequences: 0 for generated tasks (every one is fresh), and for validation if there is none.
    virtual Index dataset_size(Purpose) const { return 0; }
    // The groups of the sequences of a data set, if the data name them.
    virtual Grouping groups(Purpose) const { return {}; }
    // Digest of the content of the data that were read, not of their path; "" for generated tasks.
    virtual std::string data_digest() const { return ""; }
    // What a user should know about the data that were read, one sentence each.
    virtual std::vector<std::string> remarks() const { return {}; }
    // Sequences `sequences` of global batch number `step`, which has `batch` sequences on all ranks together.
    virtual Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const = 0;
    // The same, but x may be bits (Batch::x_bits).
    virtual Batch sample_bits(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const {
        return sample(purpose, step, batch, sequences);
    }
    // A batch that is no longer needed. Its memory may serve the next one.
    virtual void recycle(Batch&&) const {}
};

// The section [task] of a config. Each task uses the settings that it needs. Times are in milliseconds, rates are
// probabilities per step.
struct TaskConfig {
    TaskKind name = TaskKind::delayed_xor;
    double duration = 300.0;         // of a sequence (delayed_copy, delayed_xor)
    double delay = 10.0;             // d
    std::int64_t steps_per_bit = 1;  // how long each input bit lasts (delayed_copy, delayed_xor)
    BitCoding coding = BitCoding::direct;
    std::int64_t inputs = 1;   // M (images set their own)
    double rate_active = 0.5;  // of the population that codes the present value
    double rate_silent = 0.0;  // of the others
    std::int64_t classes = 2;  // cue_recall
    std::int64_t cues = 1;     // cue_recall: number of cues, shown one after the other
    double cue = 20.0;
    double answer = 20.0;
    double noise = 0.05;                                       // cue_recall: of every input during delay and answer
    std::string images = "/usr/share/datasets/fashion-mnist";  // folder with the four IDX files
    PictureOrder order = PictureOrder::rows;
    std::int64_t validation = 0;  // pictures held back from training, at the end of the training file
    // sequences from HDF5 files
    std::string file = "", validation_file = "", test_file = "";
    double validation_share = 0.0, test_share = 0.0;           // of task.file, held out from training
    std::string group_by = "";                                 // dataset with the group of each sequence
    std::vector<std::int64_t> validation_groups, test_groups;  // held out from training
    double longest = 0.0;                                      // 0: the longest of all files
    LossSteps mask = LossSteps::own;
    std::int64_t channels = 0;            // of the files; 0: the largest + 1
    std::int64_t channels_per_input = 1;  // neighbours that are summed
    bool binary = false;                  // whether an input is 0 or 1, not a number
    TimeUnit time_unit = TimeUnit::automatic;
    std::int64_t augment_shift = 0;  // channels
    double augment_stretch = 0.0, augment_drop = 0.0;
    double memory = 1.0;  // GB of a dense x that are held in memory
};

struct TaskSettings : TaskConfig {
    double dt = 1.0;  // ms
    std::uint64_t seed = 1;
    // Threads that make a batch from data in memory when it is taken, if they also compute the steps. 0: another thread
    // makes it while the step before it is computed.
    int threads = 0;
};

// T, of pictures of 28 x 28; unknown_steps if only the data say. It reads no data. Throws Error(Exit::usage) for
// contradictory settings; each setting is in the range of its key.
Index task_steps(const TaskSettings& settings);
inline constexpr Index unknown_steps = Index{1} << 31;

// The same errors, and Error(Exit::bad_file) for bad files. Sequences from HDF5 files: open_task
// (sequences/open_task.hpp).
std::unique_ptr<Task> make_task(const TaskSettings& settings);

// A time in ms as a number of steps. Throws Error(Exit::usage) naming `key` unless it is a whole number of steps.
Index whole_steps(double time, double dt, const std::string& key);

}  // namespace spikefloss
