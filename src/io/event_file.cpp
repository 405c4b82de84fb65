// TFRecord: length (8 bytes), its checksum, data, their checksum; little-endian. The checksum is CRC-32C, masked.
#include "io/event_file.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace spikefloss {
namespace {

static_assert(std::endian::native == std::endian::little, "event files are little-endian");

std::uint32_t masked_checksum(const std::string& data) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> entries{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
            entries[i] = c;
        }
        return entries;
    }();
    std::uint32_t crc = 0xFFFFFFFFu;
    for (unsigned char byte : data) crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8;
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

template <class T>
std::string bytes_of(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

// ---- the wire format of protocol buffers: key (field number, kind), value ----

std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    return bytes + static_cast<char>(value);
}

std::string integer(unsigned field, std::int64_t value) {
    return varint(field << 3) + varint(static_cast<std::uint64_t>(value));
}
std::string float64(unsigned field, double value) { return varint(field << 3 | 1) + bytes_of(value); }
std::string float32(unsigned field, float value) { return varint(field << 3 | 5) + bytes_of(value); }
std::string message(unsigned field, const std::string& bytes) {
    return varint(field << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string packed(unsigned field, std::span<const double> values) {
    return message(field, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

// Summary.Value {tag = 1, simple_value = 2}
std::string scalar(const std::string& tag, double value) {
    return message(1, message(1, tag) + float32(2, static_cast<float>(value)));
}

void add_scalars(const std::string& tag, const nlohmann::json& value, std::string& summary) {
    if (value.is_number()) {
        summary += scalar(tag, value.get<double>());
    } else if (value.is_object()) {
        for (const auto& [name, part] : value.items()) add_scalars(fmt::format("{}/{}", tag, name), part, summary);
    } else if (value.is_array() && tag.ends_with("exponents")) {
        for (std::size_t i = 0; i < value.size(); ++i) add_scalars(fmt::format("{}/{}", tag, i + 1), value[i], summary);
    }
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// A time after that of any other file of the folder. TensorBoard reads the files in the order of their names, and the
// clock may have been set back.
double time_for_name(const std::string& folder) {
    const std::string before = "events.out.tfevents.";
    double time = now();
    std::error_code fault;
    for (const auto& entry : std::filesystem::directory_iterator(folder, fault)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(before)) time = std::max(time, std::atof(name.c_str() + before.size()) + 1e-6);
    }
    return time;
}

}  // namespace

EventFile::EventFile(const std::string& folder) {
    make_folder(folder);
    char host[64] = "host";
    gethostname(host, sizeof host - 1);
    // The name that TensorBoard looks for; unique, because a session may follow within a second.
    path_ = fmt::format("{}/events.out.tfevents.{:.6f}.{}.{}", folder, time_for_name(folder), host, getpid());
    file_.open(path_, std::ios::binary);
    require(static_cast<bool>(file_), Exit::storage, fmt::format("cannot write {}: {}", path_, std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir), or set metrics.tensorboard = false");
    flush_folder(folder);
    write_record(float64(1, now()) + message(3, "brain.Event:2"));  // Event {wall_time = 1, file_version = 3}
}

void EventFile::add_line(const std::string& line) {
    const nlohmann::json json = nlohmann::json::parse(line);
    const std::string kind = json.value("kind", "diagnostics");
    std::string summary;
    for (const auto& [name, value] : json.items())
        if (name != "step" && name != "floss_step" && !name.ends_with("seconds"))
            add_scalars(fmt::format("{}/{}", kind, name), value, summary);
    write(json[kind == "flossing" ? "floss_step" : "step"].get<std::int64_t>(), summary);
}

// HistogramProto {min = 1, max = 2, num = 3, sum = 4, sum_squares = 5, bucket_limit = 6, bucket = 7}, with the buckets
// between the first and the last that are not empty.
void EventFile::add(std::int64_t step, const std::string& tag, const Histogram& histogram) {
    if (histogram.count == 0.0) return;
    const std::vector<double>& counts = histogram.counts;
    std::size_t first = 0, last = counts.size() - 1;
    while (counts[first] == 0.0) ++first;
    while (counts[last] == 0.0) --last;
    if (first > 0) --first;  // an empty one, whose limit is the lower end of the next
    const std::span<const double> limits(Histogram::limits());
    const std::string proto = float64(1, histogram.least) + float64(2, histogram.most) + float64(3, histogram.count) +
                              float64(4, histogram.sum) + float64(5, histogram.sum_of_squares) +
                              packed(6, limits.subspan(first, last - first + 1)) +
                              packed(7, std::span(counts).subspan(first, last - first + 1));
    write(step, message(1, message(1, tag) + message(5, proto)));  // Summary.Value {tag = 1, histo = 5}
}

// Event {wall_time = 1, step = 2, summary = 5}
void EventFile::write(std::int64_t step, const std::string& summary) {
    write_record(float64(1, now()) + integer(2, step) + message(5, summary));
}

void EventFile::sync() {
    require(flush_file(path_), Exit::storage, fmt::format("cannot write to {}: {}", path_, std::strerror(errno)),
            "free space on the disk and continue with --resume");
}

void EventFile::write_record(const std::string& data) {
    const std::string length = bytes_of(static_cast<std::uint64_t>(data.size()));
    file_ << length << bytes_of(masked_checksum(length)) << data << bytes_of(masked_checksum(data)) << std::flush;
    require(static_cast<bool>(file_), Exit::storage, fmt::format("cannot write to {}: {}", path_, std::strerror(errno)),
            "free space on the disk and continue with --resume");
}

}  // namespace spikefloss
