// Reads the events of a file in the layout of the Spiking Heidelberg Digits: spikes/times, a list of times for each
// sequence, and spikes/units, the channels of these events. They are kept as 6 bytes each: the time in steps as float32
// and the channel as uint16. Lists need not be sorted.
//
// A time t in ms becomes t / dt (1 + 2^-23): a time that float32 rounds to just below the beginning of a step counts as
// that beginning.
#include "core/digest.hpp"
#include "core/error.hpp"
#include "sequences/sequence_file.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

constexpr Index lists_at_once = 256;
constexpr Index most_channels = 65536;
constexpr double longest_recording = 100.0;  // s, of times that are taken as seconds unless task.time_unit says so

const char* const layouts = "docs/data.md shows the layout, and how to write it with h5py";

}  // namespace

// The factor from the times in the file to ms.
double SequenceFile::time_unit(TimeUnit unit, double largest) const {
    switch (unit) {
        case TimeUnit::seconds: return 1e3;
        case TimeUnit::milliseconds: return 1.0;
        case TimeUnit::microseconds: return 1e-3;
        case TimeUnit::automatic: break;
    }
    const bool whole = file_->holds_whole_numbers(group_ + "spikes/times");
    if (largest <= longest_recording && !(whole && largest > 0.0)) return 1e3;
    const char* guess = largest <= 1000.0 * longest_recording ? "ms" : "us";
    file_->fail(fmt::format("the times of {}spikes/times go up to {:g}{}; as seconds that is {:.3g} minutes, so they "
                            "look like {}",
                            group_, largest, whole ? " and are whole numbers" : "", largest / 60.0, guess),
                fmt::format("set task.time_unit = \"{}\", or \"s\" if they are seconds", guess));
}

void SequenceFile::read_events(const TaskSettings& settings) {
    const std::string times = group_ + "spikes/times", units = group_ + "spikes/units";
    for (const std::string& name : {times, units}) {
        if (!file_->has(name)) file_->fail(fmt::format("dataset {} is missing", name), layouts);
        const std::vector<Index> shape = file_->shape(name);
        if (shape.size() != 1 || shape[0] < 1 || !file_->holds_lists(name))
            file_->fail(fmt::format("{} has shape {} and must be [samples], one list of numbers for each sequence (in "
                                    "h5py: dtype=h5py.vlen_dtype(numpy.float32))",
                                    name, shape_text(shape)),
                        layouts);
    }
    const Index n = file_->shape(times)[0];
    if (file_->shape(units)[0] != n)
        file_->fail(fmt::format("{} has {} lists, but {} has {}", times, n, units, file_->shape(units)[0]),
                    "every sequence has as many channels as times");
    begin_.assign(1, 0);
    double largest = 0.0;
    Index empty = 0, first_empty = 0;
    std::vector<std::vector<double>> time, unit;
    for (Index first = 0; first < n; first += lists_at_once) {
        const Index lists = std::min(lists_at_once, n - first);
        file_->read_lists(times, first, lists, time);
        file_->read_lists(units, first, lists, unit);
        for (Index k = 0; k < lists; ++k) {
            const auto &t = time[static_cast<std::size_t>(k)], &c = unit[static_cast<std::size_t>(k)];
            const Index i = first + k;
            if (t.size() != c.size())
                file_->fail(
                    fmt::format("{}[{}] has {} events, but {}[{}] has {}", times, i, t.size(), units, i, c.size()),
                    "every event has one time and one channel");
            for (std::size_t e = 0; e < t.size(); ++e) {
                if (!(t[e] >= 0.0) || std::isinf(t[e]))
                    file_->fail(fmt::format("{}[{}][{}] is {} but must be a time of at least 0", times, i, e, t[e]),
                                "times are counted from the beginning of the sequence");
                if (!(c[e] >= 0.0 && c[e] < most_channels) || c[e] != std::trunc(c[e]))
                    file_->fail(fmt::format("{}[{}][{}] is {} but must be a channel, 0 to {}", units, i, e, c[e],
                                            most_channels - 1),
                                "number the channels 0, 1, 2, ...");
                largest = std::max(largest, t[e]);
                channels_ = std::max(channels_, static_cast<Index>(c[e]) + 1);
                time_.push_back(static_cast<float>(t[e]));
                channel_.push_back(static_cast<std::uint16_t>(c[e]));
            }
            if (t.empty() && empty++ == 0) first_empty = i;
            begin_.push_back(static_cast<Index>(time_.size()));
        }
    }
    if (time_.empty()) file_->fail("none of its sequences has an event", layouts);
    if (empty > 0)
        remarks_.push_back(
            fmt::format("{}: {} of {} sequences have no events, first number {}", path(), empty, n, first_empty));
    Digest digest;
    digest.add(time_.data(), time_.size() * sizeof(float));
    digest.add(channel_.data(), channel_.size() * sizeof(std::uint16_t));
    digest_ = digest.value();
    const double scale = time_unit(settings.time_unit, largest) / settings.dt * (1.0 + 0x1p-23);
    if (largest * scale >= 0x1p31)
        file_->fail(fmt::format("the times of {} go up to {:g}, more than 2^31 steps", times, largest),
                    "check task.time_unit and network.dt");
    for (float& t : time_) t = static_cast<float>(static_cast<double>(t) * scale);
    if (largest * scale < 1.0)
        remarks_.push_back(
            fmt::format("{}: all events lie in the first step of network.dt = {} ms; the times go up to "
                        "{:g} (task.time_unit)",
                        path(), settings.dt, largest));
    for (Index i = 0; i < n; ++i) {
        const float* of = time_.data() + begin_[static_cast<std::size_t>(i)];
        const float* end = time_.data() + begin_[static_cast<std::size_t>(i) + 1];
        lengths_.push_back(of == end ? 1 : static_cast<Index>(*std::max_element(of, end)) + 1);
    }
}

SequenceFile::Events SequenceFile::events(Index i) const {
    const Index begin = begin_[static_cast<std::size_t>(i)];
    return {time_.data() + begin, channel_.data() + begin, begin_[static_cast<std::size_t>(i) + 1] - begin};
}

}  // namespace spikefloss
