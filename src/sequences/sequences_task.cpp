// sequences: data of users from HDF5 files (docs/data.md). Events are counted in steps of network.dt and in inputs of
// `channels_per_input` neighbouring channels; of a dense x these channels are summed.
//
// Which sequence it is depends only on its global position p = step * batch + j:
//   train, floss, diagnose   of the n training sequences, element p % n of permutation (seed, purpose, p / n)
//   validation, test         sequence p % n in the order of the file
// A training batch is augmented by random numbers of (seed, p).
#include "backend/backend.hpp"
#include "core/digest.hpp"
#include "core/error.hpp"
#include "sequences/next_batch.hpp"
#include "sequences/open_task.hpp"
#include "sequences/sequence_file.hpp"
#include "tasks/permutation.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <set>

namespace spikefloss {
namespace {

// A file and some of its sequences.
struct Part {
    std::shared_ptr<const SequenceFile> file;
    std::vector<Index> members;
    Index size() const { return static_cast<Index>(members.size()); }
};

std::vector<Index> first_numbers(Index count) {
    std::vector<Index> numbers(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) numbers[static_cast<std::size_t>(i)] = i;
    return numbers;
}

// The numbers of the units (sequences or groups) that a share of `count` holds out: 0 for a share of 0, else at least
// one. The order is random and the same for every seed.
constexpr std::uint64_t split_seed = 0;

class Split {
public:
    Split(const SequenceFile& file, const TaskSettings& s) {
        const bool grouped = !s.group_by.empty();
        std::vector<std::int64_t> group;
        if (grouped) group = file.groups(s.group_by);
        const std::set<std::int64_t> distinct(group.begin(), group.end());
        const std::vector<std::int64_t> names(distinct.begin(), distinct.end());
        const Index units = grouped ? static_cast<Index>(names.size()) : file.count();
        const auto number = [&](double share) {
            return share > 0.0 ? std::max<Index>(1, std::llround(share * static_cast<double>(units))) : 0;
        };
        std::vector<Purpose> of_unit(static_cast<std::size_t>(units), Purpose::train);
        const Index tests = number(s.test_share), validations = number(s.validation_share);
        for (Index k = 0; k < std::min(units, tests + validations); ++k)
            of_unit[static_cast<std::size_t>(permuted(split_seed, Purpose::validation, 0, units, k))] =
                k < tests ? Purpose::test : Purpose::validation;
        const auto hold = [&](const std::vector<std::int64_t>& held, Purpose purpose, const char* key) {
            for (const std::int64_t name : held) {
                const auto at = std::lower_bound(names.begin(), names.end(), name);
                require(at != names.end() && *at == name, Exit::usage,
                        fmt::format("{} names group {}, but {} of {} has the groups {}", key, name, s.group_by,
                                    file.path(), fmt::join(names, ", ")),
                        "name groups that the file has");
                Purpose& of = of_unit[static_cast<std::size_t>(at - names.begin())];
                require(of == Purpose::train || of == purpose, Exit::usage,
                        fmt::format("group {} is held out both for validation and for the test", name),
                        "hold it out once");
                of = purpose;
            }
        };
        hold(s.validation_groups, Purpose::validation, "task.validation_groups");
        hold(s.test_groups, Purpose::test, "task.test_groups");
        for (Index i = 0; i < file.count(); ++i) {
            const Index unit =
                grouped
                    ? std::lower_bound(names.begin(), names.end(), group[static_cast<std::size_t>(i)]) - names.begin()
                    : i;
            const Purpose purpose = of_unit[static_cast<std::size_t>(unit)];
            (purpose == Purpose::train ? train : purpose == Purpose::test ? test : validation).push_back(i);
        }
        require(!train.empty(), Exit::usage,
                fmt::format("nothing is left for training of the {} {} of {}", units, grouped ? "groups" : "sequences",
                            file.path()),
                "hold out less");
    }

    std::vector<Index> train, validation, test;
};

// The random change of one training sequence.
struct Augmentation {
    Index shift = 0;       // of channels
    double stretch = 1.0;  // of times
    double drop = 0.0;     // probability
    std::uint64_t seed = 0;
    std::uint32_t low = 0, high = 0;  // of the position

    bool changes_nothing() const { return shift == 0 && stretch == 1.0 && drop <= 0.0; }

    // Whether event (or number) `number` is left out.
    bool drops(Index number) const {
        if (drop <= 0.0) return false;
        const auto words =
            random_words(seed, Stream::augmentation, low, high, static_cast<std::uint32_t>(number / 4), 1);
        return uniform(words[static_cast<std::size_t>(number % 4)]) < drop;
    }
};

class Sequences final : public Task {
public:
    explicit Sequences(const TaskSettings& settings) : s_(settings) {
        const auto file = std::make_shared<const SequenceFile>(s_.file, s_);
        const Split split(*file, s_);
        train_ = {file, split.train};
        validation_ = {file, split.validation};
        test_ = {file, split.test};
        for (const auto& [path, part] : {std::pair{s_.validation_file, &validation_}, {s_.test_file, &test_}}) {
            if (path.empty()) continue;
            part->file = std::make_shared<const SequenceFile>(path, s_);
            part->members = first_numbers(part->file->count());
        }
        files_ = {file};
        for (const Part* part : {&validation_, &test_})
            if (part->file != file) files_.push_back(part->file);
        check_files();
        const Index longest = (*std::max_element(files_.begin(), files_.end(), [](const auto& a, const auto& b) {
                                  return a->longest() < b->longest();
                              }))->longest();
        steps_ = s_.longest > 0.0 ? whole_steps(s_.longest, s_.dt, "task.longest") : longest;
        channels_ = s_.channels;
        for (const auto& one : files_)
            if (s_.channels == 0) channels_ = std::max(channels_, one->channels());
        inputs_ = (channels_ + s_.channels_per_input - 1) / s_.channels_per_input;
        for (Index channel = 0; channel < channels_; ++channel) input_of_.push_back(channel / s_.channels_per_input);
        outputs_ = file->outputs();
        remark();
    }

    Index steps() const override { return steps_; }
    Index inputs() const override { return inputs_; }
    Index outputs() const override { return outputs_; }
    LossKind loss() const override {
        return train_.file->has_labels() ? LossKind::cross_entropy_mean : LossKind::mean_squared_error;
    }
    Index dataset_size(Purpose purpose) const override { return part(purpose).size(); }
    std::vector<std::string> remarks() const override { return remarks_; }

    // By task.group_by, or by the speakers if the files have them.
    Grouping groups(Purpose purpose) const override {
        Grouping result{s_.group_by.empty() ? "extra/speaker" : s_.group_by, {}, {}, {}};
        const SequenceFile& file = *part(purpose).file;
        // A separate file of test data need not have the groups.
        if (!file.has_groups(result.name) && (s_.group_by.empty() || &file != train_.file.get())) return {};
        const auto of = [&](const Part& some) {
            const std::vector<std::int64_t> all = some.file->groups(result.name);
            std::vector<std::int64_t> group;
            for (const Index i : some.members) group.push_back(all[static_cast<std::size_t>(i)]);
            return group;
        };
        result.group = of(part(purpose));
        if (&file == train_.file.get() || train_.file->has_groups(result.name)) result.trained = of(train_);
        std::sort(result.trained.begin(), result.trained.end());
        result.trained.erase(std::unique(result.trained.begin(), result.trained.end()), result.trained.end());
        result.names = file.names(result.name + "_names");
        return result;
    }

    std::string data_digest() const override {
        Digest digest;
        for (const auto& file : files_) digest.add(file->digest());
        return fmt::format("{:016x}", digest.value());
    }

    Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        return sample(purpose, step, batch, sequences, false);
    }
    // Bits of events, if no batch of them counts to 2.
    Batch sample_bits(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        return sample(purpose, step, batch, sequences, true);
    }

    void recycle(Batch&& batch) const override {
        const std::lock_guard lock(spare_mutex_);
        spare_ = std::move(batch);
    }

private:
    Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences, bool bits) const {
        const auto make = [this, purpose, batch, sequences, bits](std::int64_t at) {
            return made(purpose, at, batch, sequences, bits);
        };
        const bool waits_for_file = !(train_.file->has_events() && s_.threads > 0);
        return purpose == Purpose::train && waits_for_file
                   ? next_.take({step, batch, sequences.begin, sequences.end, bits}, make)
                   : make(step);
    }

    // The recycled batch if it has as many sequences, otherwise an empty one.
    Batch spare(Index sequences) const {
        const std::lock_guard lock(spare_mutex_);
        return spare_.sequences == sequences ? std::exchange(spare_, {}) : Batch();
    }
    const Part& part(Purpose purpose) const {
        if (purpose == Purpose::validation) return validation_;
        return purpose == Purpose::test ? test_ : train_;
    }

    // The files must fit each other.
    void check_files() const {
        const SequenceFile& first = *files_[0];
        const bool labels = first.has_labels();
        require(!labels || first.outputs() <= first.count(), Exit::bad_file,
                fmt::format("{}: the largest label is {}, but there are only {} sequences", first.path(),
                            first.outputs() - 1, first.count()),
                "number the classes 0, 1, 2, ...");
        require(first.has_events() || s_.augment_stretch == 0.0, Exit::usage,
                fmt::format("task.augment_stretch = {} needs events, but {} has a dense x", s_.augment_stretch,
                            first.path()),
                "leave it out, or write the data as events (docs/data.md)");
        for (const auto& file : files_) {
            require(file->has_events() == first.has_events(), Exit::bad_file,
                    fmt::format("{} has {}, but {} has {}", file->path(), kind(*file), first.path(), kind(first)),
                    "write both in the same layout (docs/data.md)");
            require(file->has_labels() == labels, Exit::bad_file,
                    fmt::format("one of {} and {} has labels, the other a target", first.path(), file->path()),
                    "write both for the same loss (docs/data.md)");
            require(labels ? file->outputs() <= first.outputs() : file->outputs() == first.outputs(), Exit::bad_file,
                    labels ? fmt::format("{} has labels up to {}, but the classes of {} are 0 to {}", file->path(),
                                         file->outputs() - 1, first.path(), first.outputs() - 1)
                           : fmt::format("the target of {} has {} outputs, but that of {} has {}", file->path(),
                                         file->outputs(), first.path(), first.outputs()),
                    "number the classes of both files alike");
            require(file->has_events() || file->channels() == first.channels(), Exit::bad_file,
                    fmt::format("x of {} has {} inputs, but that of {} has {}", file->path(), file->channels(),
                                first.path(), first.channels()),
                    "write both with the same inputs");
        }
        require(
            first.has_events() || s_.channels == 0 || s_.channels == first.channels(), Exit::usage,
            fmt::format("task.channels = {}, but x of {} has {} inputs", s_.channels, first.path(), first.channels()),
            "leave task.channels out");
    }

    static const char* kind(const SequenceFile& file) { return file.has_events() ? "events" : "a dense x"; }

    // What is left out of the data, and what else a user should know.
    void remark() {
        for (const auto& file : files_) {
            for (const std::string& text : file->remarks()) remarks_.push_back(text);
            Index events = 0, late = 0, beyond = 0, cut = 0;
            for (Index i = 0; i < file->count(); ++i) {
                cut += file->length(i) > steps_;
                if (!file->has_events()) continue;
                const SequenceFile::Events e = file->events(i);
                events += e.count;
                for (Index k = 0; k < e.count; ++k)
                    late += e.time[k] >= static_cast<float>(steps_), beyond += e.channel[k] >= channels_;
            }
            if (cut > 0)
                remarks_.push_back(fmt::format(
                    "{}: {} of {} sequences are longer than task.longest = {} ms; the rest of them is cut off{}",
                    file->path(), cut, file->count(), s_.longest,
                    events > 0 ? fmt::format(" ({} of {} events)", late, events) : ""));
            if (beyond > 0)
                remarks_.push_back(
                    fmt::format("{}: {} of {} events have channels beyond task.channels = {} and are "
                                "left out",
                                file->path(), beyond, events, s_.channels));
        }
        for (std::size_t a = 0; a < files_.size(); ++a)
            for (std::size_t b = a + 1; b < files_.size(); ++b)
                if (files_[a]->digest() == files_[b]->digest())
                    remarks_.push_back(
                        fmt::format("{} and {} have the same content, so the one does not test what is "
                                    "learnt from the other",
                                    files_[a]->path(), files_[b]->path()));
        if (!train_.file->has_labels()) return;
        std::vector<bool> seen(static_cast<std::size_t>(outputs_), false);
        for (const Index i : train_.members) seen[static_cast<std::size_t>(train_.file->label(i))] = true;
        std::vector<Index> missing;
        for (Index c = 0; c < outputs_; ++c)
            if (!seen[static_cast<std::size_t>(c)]) missing.push_back(c);
        if (!missing.empty())
            remarks_.push_back(fmt::format("no training sequence has label {}", fmt::join(missing, ", ")));
    }

    Augmentation augmentation(Purpose purpose, std::int64_t position) const {
        Augmentation a;
        if (purpose != Purpose::train) return a;
        a.seed = s_.seed;
        a.low = static_cast<std::uint32_t>(position);
        a.high = static_cast<std::uint32_t>(position >> 32);
        a.drop = s_.augment_drop;
        const auto words = random_words(s_.seed, Stream::augmentation, a.low, a.high, 0, 0);
        const auto choices = static_cast<std::uint64_t>(2 * s_.augment_shift + 1);
        a.shift = static_cast<Index>((words[0] * choices) >> 32) - s_.augment_shift;
        a.stretch = 1.0 + s_.augment_stretch * (2.0 * uniform(words[1]) - 1.0);
        return a;
    }

    Batch made(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences, bool bits) const {
        const Part& from = part(purpose);
        const Index T = steps_, b = sequences.size(), M = inputs_, O = outputs_;
        Batch result = spare(b);  // all of it is written
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = O, result.loss = loss();
        result.mask.resize(static_cast<std::size_t>(T * b));
        if (from.file->has_labels())
            result.label.resize(static_cast<std::size_t>(b));
        else
            result.target.resize(static_cast<std::size_t>(T * b * O));
        const int threads = from.file->in_memory() ? std::max(1, s_.threads) : 1;  // a file has one reader
        const auto each = [&](const auto& make) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
            for (Index j = 0; j < b; ++j) make(j, drawn(purpose, step * batch + sequences.begin + j));
        };
        std::atomic<bool> counts = !(bits && from.file->has_events());  // whether an input can be 2 or more
        if (!counts) {
            result.x.clear();
            result.x_bits.resize(static_cast<std::size_t>(T * b * spike_words(M)));
            each([&](Index j, const Drawn& one) {
                if (!counts && !make_bits(one, j, result)) counts = true;
            });
        }
        if (counts) {
            result.x_bits.clear();
            result.x.resize(static_cast<std::size_t>(T * b * M));
            each([&](Index j, const Drawn& one) { make_numbers(one, j, result); });
        }
        return result;
    }

    // A sequence that was drawn for a batch.
    struct Drawn {
        const SequenceFile& file;
        Index number;  // in the file
        Augmentation change;
    };
    // The one at `position` of all that are taken.
    Drawn drawn(Purpose purpose, std::int64_t position) const {
        const Part& from = part(purpose);
        const Index n = from.size();
        const bool in_order = purpose == Purpose::test || purpose == Purpose::validation;
        const Index member =
            in_order ? position % n
                     : permuted(s_.seed, purpose, static_cast<std::uint32_t>(position / n), n, position % n);
        return {*from.file, from.members[static_cast<std::size_t>(member)], augmentation(purpose, position)};
    }

    // Writes bits of inputs of one sequence. `twice`: whether an input was added to that had its bit.
    struct Bit {
        std::uint32_t& word;
        std::uint32_t bit;
        bool& twice;
        void operator++() {
            twice |= (word & bit) != 0;
            word |= bit;
        }
    };

    // Makes sequence j of a batch, with x as bits. Returns whether all inputs are 0 or 1; if not, they are unset.
    bool make_bits(const Drawn& from, Index j, Batch& result) const {
        const Index words = spike_words(inputs_);
        std::vector<std::uint32_t> one(static_cast<std::size_t>(steps_ * words));  // it stays in cache
        bool twice = false;
        const Index length = add_events(from, [&](Index t, Index m) {
            return Bit{one[static_cast<std::size_t>(t * words + m / 32)], std::uint32_t{1} << m % 32, twice};
        });
        if (twice && !s_.binary) return false;
        for (Index t = 0; t < steps_; ++t)
            std::copy_n(one.data() + t * words, words, result.x_bits.data() + (t * result.sequences + j) * words);
        make_targets(from, length, j, result);
        return true;
    }

    // Makes sequence j of a batch, with x as numbers.
    void make_numbers(const Drawn& from, Index j, Batch& result) const {
        // One sequence is made in a place that stays in cache, with `number` for each input.
        const auto made_with = [&](const auto& add, auto number) {
            using Number = decltype(number);
            const Index M = inputs_;
            std::vector<Number> one(static_cast<std::size_t>(steps_ * M));
            const Index length = add(from, [M, to = one.data()](Index t, Index m) -> Number& { return to[t * M + m]; });
            for (Index t = 0; t < steps_; ++t) {
                const Number* const row = one.data() + t * M;
                float* const to = result.x.data() + (t * result.sequences + j) * M;
                if (s_.binary)
                    for (Index m = 0; m < M; ++m) to[m] = row[m] > Number{} ? 1.0f : 0.0f;
                else
                    for (Index m = 0; m < M; ++m) to[m] = static_cast<float>(row[m]);
            }
            return length;
        };
        const auto events = [&](const auto&... of) { return add_events(of...); };
        const auto dense = [&](const auto&... of) { return add_rows(of...); };
        Index length = 0;
        if (!from.file.has_events())
            length = made_with(dense, float{});
        else if (from.file.events(from.number).count <= std::numeric_limits<std::uint16_t>::max())
            length = made_with(events, std::uint16_t{});
        else
            length = made_with(events, float{});
        make_targets(from, length, j, result);
    }

    // Of sequence j of a batch, whose inputs have `length` steps.
    void make_targets(const Drawn& from, Index length, Index j, Batch& result) const {
        const Index T = steps_, b = result.sequences, O = outputs_;
        for (Index t = 0; t < T; ++t)
            result.mask[t * b + j] = (s_.mask == LossSteps::all || t < length) && from.file.counts(from.number, t);
        if (from.file.has_labels()) {
            result.label[j] = from.file.label(from.number);
            return;
        }
        std::vector<float> rows;
        const Index steps = std::min(T, from.file.length(from.number));
        from.file.read_target(from.number, steps, rows);
        for (Index t = 0; t < T; ++t) {
            float* const to = result.target.data() + (t * b + j) * O;
            if (t < steps)
                std::copy_n(rows.data() + t * O, O, to);
            else
                std::fill_n(to, O, 0.0f);
        }
    }

    // Adds the events of a sequence to its inputs. Returns its length in steps.
    template <class Place>
    Index add_events(const Drawn& from, const Place& place) const {
        const SequenceFile::Events e = from.file.events(from.number);
        const Augmentation& a = from.change;
        if (a.changes_nothing()) {
            for (Index k = 0; k < e.count; ++k)
                if (e.time[k] < static_cast<float>(steps_) && e.channel[k] < channels_)
                    ++place(static_cast<Index>(e.time[k]), input_of_[e.channel[k]]);
            return std::min(from.file.length(from.number), steps_);
        }
        Index length = 1;
        for (Index k = 0; k < e.count; ++k) {
            const auto t = static_cast<Index>(static_cast<double>(e.time[k]) * a.stretch);
            const Index channel = e.channel[k] + a.shift;
            length = std::max(length, t + 1);
            if (t >= steps_ || e.channel[k] >= channels_ || channel < 0 || channel >= channels_ || a.drops(k)) continue;
            ++place(t, input_of_[static_cast<std::size_t>(channel)]);
        }
        return std::min(length, steps_);
    }

    // The same for the rows of a dense x.
    template <class Place>
    Index add_rows(const Drawn& from, const Place& place) const {
        const Index steps = std::min(steps_, from.file.length(from.number)), C = channels_;
        const Augmentation& a = from.change;
        std::vector<float> rows;
        from.file.read_x(from.number, steps, rows);
        for (Index t = 0; t < steps; ++t)
            for (Index c = std::max<Index>(0, -a.shift); c < std::min(C, C - a.shift); ++c)
                if (!a.drops(t * C + c))
                    place(t, input_of_[static_cast<std::size_t>(c + a.shift)]) +=
                        rows[static_cast<std::size_t>(t * C + c)];
        return steps;
    }

    TaskSettings s_;
    Part train_, validation_, test_;
    std::vector<std::shared_ptr<const SequenceFile>> files_;  // task.file first
    Index steps_ = 0, channels_ = 0, inputs_ = 0, outputs_ = 0;
    std::vector<Index> input_of_;  // [channels]
    std::vector<std::string> remarks_;
    mutable std::mutex spare_mutex_;
    mutable Batch spare_;     // a recycled batch, or an empty one
    mutable NextBatch next_;  // last: its thread uses the others
};

}  // namespace

std::unique_ptr<Task> make_sequences(const TaskSettings& settings) { return std::make_unique<Sequences>(settings); }

}  // namespace spikefloss
