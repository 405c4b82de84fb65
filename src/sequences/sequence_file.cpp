// Finds the layout of a file, and reads labels, lengths, masks and dense arrays. event_lists.cpp reads events.
#include "sequences/sequence_file.hpp"

#include "core/digest.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cstdlib>

namespace spikefloss {
namespace {

const char* const layouts = "docs/data.md shows the layouts, and how to write them with h5py";
constexpr Index block_numbers = Index{1} << 24;                                 // that are read from a file at once
constexpr std::size_t chunk_bytes = std::size_t{1} << 28, chunk_slots = 10007;  // of chunks that stay in memory
constexpr Index sampled = 64;  // sequences in the digest of a dense x that stays in the file

}  // namespace

SequenceFile::SequenceFile(const std::string& path, const TaskSettings& settings)
    : file_(std::make_unique<InputFile>(path)) {
    const std::unique_lock lock(hdf5_mutex());
    for (const char* group : {"/", "/sequences/"}) {
        group_ = group;
        time_first_ = group_ != "/";
        const bool has_x = has("x");
        events_ = has("spikes/times") || has("spikes/units");
        if (has_x && events_)
            file_->fail(fmt::format("{0}x and {0}spikes are both there", group_), "keep one of the two");
        if (has_x || events_) break;
        if (time_first_)
            file_->fail("it has neither events (spikes/times and spikes/units) nor a dense x [samples, T, M]", layouts);
    }
    if (events_)
        read_events(settings);
    else
        read_dense(settings);
    read_labels();
    Digest digest(digest_);
    for (const Index length : lengths_) digest.add(static_cast<std::uint64_t>(length));
    for (const std::int32_t label : labels_) digest.add(static_cast<std::uint64_t>(label));
    digest.add(mask_.data(), mask_.size());
    digest_ = digest.value();
}

Index SequenceFile::longest() const { return *std::max_element(lengths_.begin(), lengths_.end()); }

void SequenceFile::require_count(const std::string& name, const std::vector<Index>& shape) const {
    if (shape != std::vector<Index>{count()})
        file_->fail(fmt::format("{} has shape {} but must have one number for each of the {} sequences", name,
                                shape_text(shape), count()),
                    layouts);
}

std::vector<std::int64_t> SequenceFile::groups(const std::string& text) const {
    const std::unique_lock lock(hdf5_mutex());
    const std::size_t bracket = text.find('[');
    const std::string name = text.substr(0, bracket);
    const char* const advice =
        "name the dataset with the group of each sequence, such as extra/speaker; or a column "
        "of a table of them, such as groups[0]";
    if (!file_->has(name)) file_->fail(fmt::format("the dataset {} of task.group_by is missing", name), advice);
    const std::vector<Index> shape = file_->shape(name);
    if (bracket == std::string::npos) {
        require_count(name, shape);
        return file_->read<std::int64_t>(name);
    }
    char* end = nullptr;
    const Index column = std::strtol(text.c_str() + bracket + 1, &end, 10);
    if (std::string(end) != "]" || shape.size() != 2 || shape[0] != count() || column < 0 || column >= shape[1])
        file_->fail(fmt::format("task.group_by = \"{}\" is no column of {}, which has shape {}; there are {} sequences",
                                text, name, shape_text(shape), count()),
                    advice);
    return file_->read<std::int64_t>(name, {0, column}, {count(), 1});
}

std::vector<std::string> SequenceFile::names(const std::string& name) const {
    const std::unique_lock lock(hdf5_mutex());
    return file_->has(name) ? file_->texts(name) : std::vector<std::string>();
}

bool SequenceFile::contains(const std::string& name) const {
    const std::unique_lock lock(hdf5_mutex());
    return file_->has(name);
}

bool SequenceFile::has_groups(const std::string& name) const {
    const std::unique_lock lock(hdf5_mutex());
    return file_->has(name) && file_->shape(name) == std::vector<Index>{count()} && file_->holds_whole_numbers(name);
}

// ---- a dense x ----

void SequenceFile::read_dense(const TaskSettings& settings) {
    const std::string name = group_ + "x";
    const std::vector<Index> shape = file_->shape(name);
    const char* const letters = time_first_ ? "[T, B, M]" : "[samples, T, M]";
    const bool fits = shape.size() == 3 && std::all_of(shape.begin(), shape.end(), [](Index n) { return n > 0; });
    if (!fits)
        file_->fail(fmt::format("{} has shape {} but must be {}, all above 0", name, shape_text(shape), letters),
                    layouts);
    const Index steps = shape[time_first_ ? 0 : 1];
    x_ = {name, shape[2]};
    channels_ = shape[2];
    lengths_.assign(static_cast<std::size_t>(shape[time_first_ ? 1 : 0]), steps);
    read_lengths(steps);
    read_mask(steps);
    if (has("target")) {
        const std::string target = group_ + "target";
        const std::vector<Index> found = file_->shape(target);
        if (found.size() != 3 || found[0] != shape[0] || found[1] != shape[1] || found[2] < 1)
            file_->fail(fmt::format("{} has shape {} but must be [{}, {}, O], because {} has shape {}", target,
                                    shape_text(found), shape[0], shape[1], name, shape_text(shape)),
                        layouts);
        target_ = {target, found[2]};
        outputs_ = found[2];
    }
    begin_.assign(1, 0);
    for (const Index length : lengths_) begin_.push_back(begin_.back() + length);
    const double bytes = 4.0 * static_cast<double>(begin_.back()) * static_cast<double>(x_.columns + target_.columns);
    const bool kept = bytes <= settings.memory * 1e9;
    for (Rows* rows : {&x_, &target_}) {
        if (rows->columns == 0) continue;
        Digest digest(digest_);
        if (kept) {
            keep(*rows, steps);
            digest.add(rows->values.data(), rows->values.size() * sizeof(float));
        } else {
            const Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
            H5Pset_chunk_cache(access, chunk_slots, chunk_bytes, H5D_CHUNK_CACHE_W0_DEFAULT);
            rows->open = Hdf5Handle(H5Dopen2(file_->id(), rows->name.c_str(), access), H5Dclose);
            std::vector<float> values;
            for (Index k = 0; k < std::min(sampled, count()); ++k) {
                const Index i = k * count() / std::min(sampled, count());
                read_rows(*rows, i, length(i), values);
                digest.add(values.data(), values.size() * sizeof(float));
            }
        }
        digest_ = digest.value();
    }
}

void SequenceFile::read_lengths(Index steps) {
    if (!has("length")) return;
    const std::string name = group_ + "length";
    require_count(name, file_->shape(name));
    const auto found = file_->read<std::int64_t>(name);
    for (std::size_t i = 0; i < found.size(); ++i)
        if (found[i] < 1 || found[i] > steps)
            file_->fail(fmt::format("{}[{}] is {} but must be 1 to {}, the steps of x", name, i, found[i], steps),
                        "write the number of steps of each sequence");
    lengths_.assign(found.begin(), found.end());
}

void SequenceFile::read_mask(Index steps) {
    if (!has("mask")) return;
    const std::string name = group_ + "mask";
    const std::vector<Index> shape = file_->shape(name);
    const std::vector<Index> each = time_first_ ? std::vector{steps, count()} : std::vector{count(), steps};
    if (shape != std::vector{steps} && shape != each)
        file_->fail(
            fmt::format("{} has shape {} but must be [{}] or {}", name, shape_text(shape), steps, shape_text(each)),
            layouts);
    mask_ = file_->read<std::uint8_t>(name);
    for (std::size_t i = 0; i < mask_.size(); ++i)
        if (mask_[i] > 1)
            file_->fail(fmt::format("{} has the value {} but must be 0 or 1", name, mask_[i]),
                        "1 marks the steps that count for the loss");
    if (shape == each && time_first_) {
        std::vector<std::uint8_t> turned(mask_.size());
        for (Index t = 0; t < steps; ++t)
            for (Index i = 0; i < count(); ++i) turned[i * steps + t] = mask_[t * count() + i];
        mask_.swap(turned);
    }
    mask_steps_ = steps;
}

bool SequenceFile::counts(Index i, Index t) const {
    if (mask_.empty() || t >= mask_steps_) return true;
    const bool each = static_cast<Index>(mask_.size()) != mask_steps_;
    return mask_[static_cast<std::size_t>((each ? i * mask_steps_ : 0) + t)] != 0;
}

// Reads all rows into memory, some sequences at a time.
void SequenceFile::keep(Rows& rows, Index steps) {
    rows.values.resize(static_cast<std::size_t>(begin_.back() * rows.columns));
    const Index most = std::max<Index>(1, block_numbers / (steps * rows.columns));
    for (Index first = 0; first < count(); first += most) {
        const Index n = std::min(most, count() - first), C = rows.columns;
        const std::vector<float> block = time_first_ ? file_->read<float>(rows.name, {0, first, 0}, {steps, n, C})
                                                     : file_->read<float>(rows.name, {first, 0, 0}, {n, steps, C});
        for (Index i = 0; i < n; ++i)
            for (Index t = 0; t < length(first + i); ++t)
                std::copy_n(&block[static_cast<std::size_t>((time_first_ ? t * n + i : i * steps + t) * C)], C,
                            &rows.values[static_cast<std::size_t>((begin_[first + i] + t) * C)]);
    }
}

void SequenceFile::read_rows(const Rows& rows, Index i, Index steps, std::vector<float>& out) const {
    out.resize(static_cast<std::size_t>(steps * rows.columns));
    if (!rows.values.empty()) {
        std::copy_n(rows.values.begin() + begin_[static_cast<std::size_t>(i)] * rows.columns, out.size(), out.begin());
        return;
    }
    const std::unique_lock lock(hdf5_mutex());
    if (time_first_)
        file_->read(rows.name, {0, i, 0}, {steps, 1, rows.columns}, out.data());
    else
        file_->read(rows.name, {i, 0, 0}, {1, steps, rows.columns}, out.data());
}

// ---- labels ----

void SequenceFile::read_labels() {
    std::string name;
    for (const char* word : {"labels", "label"})
        if (has(word)) name = group_ + word;
    if (name.empty() == (target_.columns == 0))
        file_->fail(name.empty() ? fmt::format("it has neither {0}labels nor {0}target", group_)
                                 : fmt::format("it has both {} and {}target", name, group_),
                    name.empty() ? layouts : "keep the one for the loss that you need");
    if (name.empty()) return;
    require_count(name, file_->shape(name));
    const auto found = file_->read<std::int64_t>(name);
    for (std::size_t i = 0; i < found.size(); ++i)
        if (found[i] < 0 || found[i] > 1'000'000)
            file_->fail(fmt::format("{}[{}] is {} but must be the number of a class, from 0", name, i, found[i]),
                        "number the classes 0, 1, 2, ...");
    labels_.assign(found.begin(), found.end());
    outputs_ = *std::max_element(labels_.begin(), labels_.end()) + 1;
}

}  // namespace spikefloss
