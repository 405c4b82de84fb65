// Computes checksums, and compares a file with the checksums in it.
#include "io/hdf5_checksum.hpp"

#include "core/error.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <type_traits>

namespace spikefloss {
namespace {

const char* const write_anew = "copy it or write it again";

// The first line of an error. The function that reports the fault adds the suggestion.
std::string problem_of(const std::exception& error) {
    const std::string text = error.what();
    return text.substr(0, text.find('\n'));
}

std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

std::uint64_t hash(std::uint64_t seed, const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) seed = (seed ^ bytes[i]) * 0x100000001B3u;  // FNV-1a
    return mix(seed + size);
}

// Elements of one contiguous run of a row-major array, the first having the linear index `first`.
template <class T>
std::uint64_t run_checksum(const T* data, Index count, Index first) {
    using Bits = std::conditional_t<sizeof(T) == 1, std::uint8_t,
                                    std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
    std::uint64_t sum = 0;
    for (Index i = 0; i < count; ++i)
        sum += mix(std::bit_cast<Bits>(data[i]) + static_cast<std::uint64_t>(1 + first + i) * 0x9E3779B97F4A7C15u);
    return sum;
}

// The last bytes of a complete file.
struct Seal {
    char magic[8];
    std::int64_t size;
    std::uint64_t sum;
};
constexpr char seal_magic[8] = {'S', 'F', 'S', 'E', 'A', 'L', '0', '1'};

// Throws Error(Exit::bad_file) when the file does not end with a seal of its size. A FIFO or a device is not read.
Seal read_seal(const std::string& path) {
    require_regular_file(path);
    std::error_code code;
    const auto whole = static_cast<Index>(std::filesystem::file_size(path, code));
    require(!code, Exit::bad_file, fmt::format("{}: {}", path, code.message()));
    Seal seal{};
    const Index size = whole - static_cast<Index>(sizeof seal);
    std::ifstream file(path, std::ios::binary);
    file.seekg(std::max<Index>(size, 0));
    file.read(reinterpret_cast<char*>(&seal), sizeof seal);
    require(file && std::memcmp(seal.magic, seal_magic, sizeof seal_magic) == 0 && seal.size == size, Exit::bad_file,
            fmt::format("{}: the file is truncated or was changed: it has {} bytes and does not end with a seal", path,
                        whole));
    return seal;
}

// The checksum that a file has for one dataset, and this rank's share of the computed one.
struct Entry {
    std::string name;
    std::int64_t stated = 0, found = 0;
};

struct Contents {
    std::vector<std::string> groups, datasets;
};

herr_t collect(hid_t, const char* name, const H5O_info_t* info, void* data) {
    auto& contents = *static_cast<Contents*>(data);
    const std::string path = std::strcmp(name, ".") == 0 ? "/" : std::string("/") + name;
    (info->type == H5O_TYPE_DATASET ? contents.datasets : contents.groups).push_back(path);
    return 0;
}

Contents contents_of(const InputFile& file) {
    Contents contents;
    if (H5Ovisit2(file.id(), H5_INDEX_NAME, H5_ITER_INC, collect, &contents, H5O_INFO_BASIC) < 0)
        file.fail("its list of objects cannot be read: " + hdf5_reason(), write_anew);
    return contents;
}

std::vector<std::string> attribute_names(const InputFile& file, const std::string& object) {
    std::vector<std::string> names;
    const auto collect_name = [](hid_t, const char* name, const H5A_info_t*, void* data) -> herr_t {
        static_cast<std::vector<std::string>*>(data)->emplace_back(name);
        return 0;
    };
    if (H5Aiterate_by_name(file.id(), object.c_str(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_name, &names,
                           H5P_DEFAULT) < 0)
        file.fail(fmt::format("the attributes of {} cannot be read: {}", object, hdf5_reason()), write_anew);
    return names;
}

AttributeValue attribute_value(const InputFile& file, const std::string& object, const std::string& name) {
    const Hdf5Handle attribute(H5Aopen_by_name(file.id(), object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
                               H5Aclose);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    const H5T_class_t kind = type ? H5Tget_class(type) : H5T_NO_CLASS;
    if (kind == H5T_STRING) return file.string_attribute(object, name);
    if (kind == H5T_FLOAT) return file.number_attribute(object, name);
    return file.integer_attribute(object, name);
}

std::int64_t attributes_checksum(const InputFile& file, const Contents& contents) {
    std::uint64_t sum = 0;
    for (const auto* objects : {&contents.groups, &contents.datasets})
        for (const std::string& object : *objects)
            for (const std::string& name : attribute_names(file, object))
                if (object != "/" || name != checksum_name)
                    sum += attribute_checksum(object, name, attribute_value(file, object, name));
    return static_cast<std::int64_t>(sum);
}

template <class T>
std::uint64_t share_checksum(const InputFile& file, const std::string& name, const std::vector<Index>& dims,
                             const ProcessGrid& grid) {
    if (dims.empty()) {
        if (grid.rank() != 0) return 0;
        const std::vector<T> value = file.read<T>(name);
        return block_checksum<T>(dims, {{}, {}, value.data()});
    }
    Index row = 1;
    for (std::size_t d = 1; d < dims.size(); ++d) row *= dims[d];
    if (row == 0) return 0;
    const BlockRange mine = block_range(dims[0], grid.ranks(), grid.rank());
    const Index step = std::max<Index>(1, (Index(1) << 24) / row);
    std::uint64_t sum = 0;
    for (Index first = mine.begin; first < mine.end; first += step) {
        std::vector<Index> offset(dims.size(), 0), count = dims;
        offset[0] = first;
        count[0] = std::min(step, mine.end - first);
        const std::vector<T> values = file.read<T>(name, offset, count);
        sum += block_checksum<T>(dims, {offset, count, values.data()});
    }
    return sum;
}

std::uint64_t share_checksum(const InputFile& file, const std::string& name, const ProcessGrid& grid) {
    const Hdf5Handle dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
    const Hdf5Handle type(dataset ? H5Dget_type(dataset) : hid_t(-1), H5Tclose);
    if (!type) file.fail(fmt::format("{} cannot be opened: {}", name, hdf5_reason()), write_anew);
    const std::vector<Index> dims = file.shape(name);
    const bool is_float = H5Tget_class(type) == H5T_FLOAT, is_short = H5Tget_size(type) == 4;
    if (is_float)
        return is_short ? share_checksum<float>(file, name, dims, grid)
                        : share_checksum<double>(file, name, dims, grid);
    if (H5Tget_size(type) == 1) return share_checksum<std::uint8_t>(file, name, dims, grid);
    return is_short ? share_checksum<std::int32_t>(file, name, dims, grid)
                    : share_checksum<std::int64_t>(file, name, dims, grid);
}

}  // namespace

std::string first_text(const std::string& mine, const ProcessGrid& grid) {
    const int none = grid.ranks();
    const int rank = grid.control().lowest(mine.empty() ? none : grid.rank());
    if (rank == none) return "";
    std::int64_t size = static_cast<std::int64_t>(mine.size());
    grid.control().broadcast(&size, sizeof size, rank);
    std::string text = mine;
    text.resize(static_cast<std::size_t>(size));
    grid.control().broadcast(text.data(), size, rank);
    return text;
}

template <class T>
std::uint64_t block_checksum(const std::vector<Index>& dims, const Block<T>& block) {
    if (dims.empty()) return run_checksum(block.data, 1, 0);
    // Rows of the last dimension are contiguous in the global array; walk over all others.
    const std::size_t last = dims.size() - 1;
    Index runs = 1;
    for (std::size_t d = 0; d < last; ++d) runs *= block.count[d];
    std::uint64_t sum = 0;
    for (Index run = 0; run < runs; ++run) {
        Index rest = run, first = block.offset[last], stride = dims[last];
        for (std::size_t d = last; d-- > 0;) {
            first += (block.offset[d] + rest % block.count[d]) * stride;
            rest /= block.count[d];
            stride *= dims[d];
        }
        sum += run_checksum(block.data + run * block.count[last], block.count[last], first);
    }
    return sum;
}

template std::uint64_t block_checksum(const std::vector<Index>&, const Block<float>&);
template std::uint64_t block_checksum(const std::vector<Index>&, const Block<double>&);
template std::uint64_t block_checksum(const std::vector<Index>&, const Block<std::int32_t>&);
template std::uint64_t block_checksum(const std::vector<Index>&, const Block<std::int64_t>&);
template std::uint64_t block_checksum(const std::vector<Index>&, const Block<std::uint8_t>&);

std::uint64_t attribute_checksum(const std::string& object, const std::string& name, const AttributeValue& value) {
    std::uint64_t sum = hash(0xCBF29CE484222325u, object.data(), object.size());
    sum = hash(sum, name.data(), name.size());
    sum = hash(sum + value.index(), nullptr, 0);
    if (const auto* text = std::get_if<std::string>(&value)) return hash(sum, text->data(), text->size());
    if (const auto* number = std::get_if<double>(&value)) return hash(sum, number, sizeof *number);
    return hash(sum, &std::get<std::int64_t>(value), sizeof(std::int64_t));
}

std::uint64_t bytes_checksum(const std::string& path, Index size, int ranks, int rank) {
    constexpr Index word = 8, piece = Index(1) << 20;  // words read at once
    const BlockRange mine = block_range((size + word - 1) / word, ranks, rank);
    std::ifstream file(path, std::ios::binary);
    file.seekg(mine.begin * word);
    std::uint64_t sum = 0;
    std::vector<std::uint64_t> words;
    for (Index first = mine.begin; first < mine.end; first += piece) {
        const Index count = std::min(piece, mine.end - first);
        words.assign(static_cast<std::size_t>(count), 0);  // the last word is filled up with zeros
        const Index bytes = std::min(count * word, size - first * word);
        require(static_cast<bool>(file.read(reinterpret_cast<char*>(words.data()), bytes)), Exit::bad_file,
                fmt::format("{}: cannot be read completely", path),
                "the storage is faulty, or the file became shorter meanwhile: copy it again");
        sum += run_checksum(words.data(), count, first);
    }
    return sum;
}

bool write_seal(int descriptor, Index size, std::uint64_t sum) {
    Seal seal{{}, size, sum};
    std::memcpy(seal.magic, seal_magic, sizeof seal_magic);
    errno = ENOSPC;  // the meaning of a short write
    return ::pwrite(descriptor, &seal, sizeof seal, size) == static_cast<ssize_t>(sizeof seal);
}

bool has_seal(const std::string& path) {
    try {
        read_seal(path);
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

bool is_whole_file_of(const std::string& format, const std::string& path) {
    try {
        const Seal seal = read_seal(path);
        if (bytes_checksum(path, seal.size, 1, 0) != seal.sum) return false;
        const InputFile file(path);
        return file.has_attribute("/", "format") && file.string_attribute("/", "format") == format;
    } catch (const std::exception&) {
        return false;
    }
}

void touch_attributes(const InputFile& file, const std::string& object, std::vector<std::string> names) {
    if (!file.has(object)) return;
    const auto attempt = [](auto&& read) {
        try {
            read();
        } catch (const std::exception&) {  // its reader will throw it again
        }
    };
    attempt([&] {
        for (std::string& name : attribute_names(file, object)) names.push_back(std::move(name));
    });
    for (const std::string& name : names) attempt([&] { attribute_value(file, object, name); });
}

void touch_contents(const InputFile& file, const std::function<void()>& progress) {
    const Contents contents = contents_of(file);
    for (const std::string& name : contents.datasets) file.touch(name, progress);
    for (const auto* objects : {&contents.groups, &contents.datasets})
        for (const std::string& object : *objects) {
            touch_attributes(file, object, {});
            progress();
        }
}

std::string seal_fault(const std::string& path, const ProcessGrid& grid) {
    std::string fault;
    Seal seal{};
    std::int64_t sum = 0;
    try {
        seal = read_seal(path);
        sum = static_cast<std::int64_t>(bytes_checksum(path, seal.size, grid.ranks(), grid.rank()));
    } catch (const std::exception& error) {
        fault = problem_of(error);
    }
    fault = first_text(fault, grid);
    if (!fault.empty()) return fault;
    grid.control().all_reduce_sum(&sum, Scalar::int64, 1);
    if (static_cast<std::uint64_t>(sum) != seal.sum)
        fault = fmt::format("{}: the file is damaged: its bytes do not match their checksum", path);
    return first_text(fault, grid);
}

std::string checksum_fault(const std::string& path, const ProcessGrid& grid) {
    std::string fault;
    std::vector<Entry> entries;
    try {
        const InputFile file(path);
        const Contents contents = contents_of(file);
        if (!file.has_attribute("/", checksum_name)) file.fail("it has no checksum", write_anew);
        for (const std::string& name : contents.datasets)
            entries.push_back({name, file.integer_attribute(name, checksum_name),
                               static_cast<std::int64_t>(share_checksum(file, name, grid))});
        if (file.integer_attribute("/", checksum_name) != attributes_checksum(file, contents))
            file.fail("an attribute or the list of datasets does not match the checksum", write_anew);
    } catch (const std::exception& error) {
        fault = problem_of(error);
    }
    fault = first_text(fault, grid);
    if (!fault.empty()) return fault;
    for (Entry& entry : entries) {
        grid.control().all_reduce_sum(&entry.found, Scalar::int64, 1);
        if (entry.found != entry.stated && fault.empty())
            fault = fmt::format("{}: dataset {} does not match its checksum", path, entry.name);
    }
    return fault;
}

}  // namespace spikefloss
