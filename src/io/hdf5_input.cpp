// Reads HDF5 files with the library's ordinary driver. Errors name exactly what does not fit.
#include "core/error.hpp"
#include "io/hdf5_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace spikefloss {
namespace {

constexpr int most_links = 16;                 // soft links on the way to one object
constexpr std::size_t longest_text = 1 << 24;  // bytes of an attribute
constexpr Index touched_elements = 1 << 22;    // read at once by touch()
constexpr Index touched_lists = 64;
constexpr Index touched_blocks = 256;  // of a dataset with more, touch() reads every second, third, ... one

// Suggestions.
const char* const hold_it = "store the numbers in the file itself: in Python, file['name'] = array";
const char* const write_anew = "the file is truncated or damaged: copy or write it again";

Index elements(const std::vector<Index>& count) {
    Index product = 1;
    for (Index size : count) product *= size;
    return product;
}

// The global index of element `element` of the block, as "[3, 0, 7]".
std::string index_text(const std::vector<Index>& offset, const std::vector<Index>& count, Index element) {
    std::vector<Index> index = offset;
    for (std::size_t d = count.size(); d-- > 0;) {
        index[d] += element % count[d];
        element /= count[d];
    }
    return shape_text(index);
}

// For each of `rank` axes, the number of an axis of the shape. Surplus axes of size 1 are left out; missing axes (an
// index beyond the shape) come last. If they do not fit, all axes of the shape.
std::vector<std::size_t> axes_of(const std::vector<Index>& dims, std::size_t rank) {
    std::vector<std::size_t> axes;
    const auto ones = static_cast<std::size_t>(std::count(dims.begin(), dims.end(), 1));
    std::size_t surplus = dims.size() > rank && dims.size() - rank <= ones ? dims.size() - rank : 0;
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
        if (surplus > 0 && dims[axis] == 1)
            --surplus;
        else
            axes.push_back(axis);
    }
    while (axes.size() < rank) axes.push_back(dims.size());
    return axes;
}

// An array whose first index varies fastest -> row-major with the same indices.
template <class T>
void turn(const std::vector<T>& in, const std::vector<Index>& count, T* out) {
    std::vector<Index> index(count.size(), 0), stride(count.size(), 1);
    for (std::size_t d = 1; d < count.size(); ++d) stride[d] = stride[d - 1] * count[d - 1];
    Index at = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
        out[i] = in[static_cast<std::size_t>(at)];
        for (std::size_t d = count.size(); d-- > 0;) {
            at += stride[d];
            if (++index[d] < count[d]) break;
            at -= stride[d] * count[d];
            index[d] = 0;
        }
    }
}

bool is_number(hid_t type) {
    const H5T_class_t kind = H5Tget_class(type);
    return kind == H5T_INTEGER || kind == H5T_FLOAT || kind == H5T_ENUM;  // numpy's bool is an enum
}

std::string kind_text(hid_t type) {
    switch (H5Tget_class(type)) {
        case H5T_STRING: return "text";
        case H5T_COMPOUND: return "records (complex numbers are stored so)";
        case H5T_VLEN: return "arrays of varying length";
        case H5T_OPAQUE: return "opaque bytes";
        case H5T_REFERENCE: return "references";
        default: return "no plain numbers";
    }
}

}  // namespace

InputFile::InputFile(std::string path, const std::function<void()>& progress) : path_(std::move(path)) {
    silence_hdf5();
    require_regular_file(path_);
    if (!is_gzip(path_)) {
        open(path_);
        return;
    }
    const TemporaryFile unpacked;
    unpack_gzip(path_, unpacked, progress);
    open(unpacked.name());  // the library keeps it after its name is removed
}

void InputFile::open(const std::string& place) {
    const htri_t is_hdf5 = H5Fis_hdf5(place.c_str());
    if (is_hdf5 <= 0)
        fail("this is not an HDF5 file, or its beginning is damaged",
             "write it with h5py or another HDF5 library; docs/files.md shows how");
    Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_file_locking(access, true, true);  // without locks if the file system has none
    file_ = Hdf5Handle(H5Fopen(place.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
    if (file_) return;
    const std::string reason = hdf5_reason();
    fail(fmt::format("the HDF5 library cannot open it: {}", reason),
         reason.find("lock") != std::string::npos ? "another process has it open to write: close it there first"
                                                  : "the file is truncated or damaged: copy or write it again");
}

void InputFile::fail(const std::string& problem, const std::string& suggestion) const {
    throw Error(Exit::bad_file, path_ + ": " + problem, suggestion);
}

// The library would follow any link, also into other files and devices. So each step of the path is checked.
std::string InputFile::resolved(const std::string& name, int links) const {
    if (links > most_links) fail(fmt::format("the links at {} form a circle", name), hold_it);
    std::string at;
    for (std::size_t begin = 0; begin < name.size();) {
        const std::size_t end = std::min(name.find('/', begin), name.size());
        const std::string part = name.substr(begin, end - begin);
        begin = end + 1;
        if (part.empty() || part == ".") continue;
        const std::string next = fmt::format("{}/{}", at, part);
        H5L_info_t link = {};
        if (H5Lexists(file_, next.c_str(), H5P_DEFAULT) <= 0) return "";
        if (H5Lget_info(file_, next.c_str(), &link, H5P_DEFAULT) < 0)
            fail(fmt::format("the link {} cannot be read: {}", next, hdf5_reason()), write_anew);
        if (link.type == H5L_TYPE_HARD) {
            at = next;
            continue;
        }
        if (link.type != H5L_TYPE_SOFT)
            fail(fmt::format("{} is a link to another file, which is not followed", next), hold_it);
        std::string target(link.u.val_size + 1, '\0');
        if (H5Lget_val(file_, next.c_str(), target.data(), target.size(), H5P_DEFAULT) < 0)
            fail(fmt::format("the link {} cannot be read: {}", next, hdf5_reason()), write_anew);
        target.resize(std::strlen(target.c_str()));
        at = resolved(target.starts_with('/') ? target : fmt::format("{}/{}", at, target), links + 1);
        if (at.empty()) return "";
    }
    if (at.empty()) return "/";
    return H5Oexists_by_name(file_, at.c_str(), H5P_DEFAULT) > 0 ? at : "";
}

bool InputFile::has(const std::string& name) const { return !resolved(name).empty(); }

bool InputFile::has_attribute(const std::string& object, const std::string& name) const {
    const std::string place = resolved(object);
    return !place.empty() && H5Aexists_by_name(file_, place.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

Hdf5Handle InputFile::open_dataset(const std::string& name) const {
    const std::string place = resolved(name);
    if (place.empty()) fail(fmt::format("dataset {} is missing", name), "docs/files.md lists what a file must hold");
    H5O_info_t object = {};
    if (H5Oget_info_by_name2(file_, place.c_str(), &object, H5O_INFO_BASIC, H5P_DEFAULT) >= 0 &&
        object.type != H5O_TYPE_DATASET)
        fail(fmt::format("{} cannot be opened as a dataset: it is a group or a type", name),
             "docs/files.md lists what a file must hold");
    Hdf5Handle dataset(H5Dopen2(file_, place.c_str(), H5P_DEFAULT), H5Dclose);
    if (!dataset) fail(fmt::format("{} cannot be opened as a dataset: {}", name, hdf5_reason()), write_anew);
    const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
    if (H5Pget_external_count(creation) > 0)
        fail(fmt::format("the numbers of {} are in another file (external storage), which is not read", name), hold_it);
    if (H5Pget_layout(creation) == H5D_VIRTUAL)
        fail(fmt::format("{} is a virtual dataset, which is not read: its numbers are elsewhere", name), hold_it);
    for (int filter = 0; filter < H5Pget_nfilters(creation); ++filter) {
        unsigned flags = 0;
        std::size_t values = 0;
        char text[64] = "";
        const H5Z_filter_t id = H5Pget_filter2(creation, static_cast<unsigned>(filter), &flags, &values, nullptr,
                                               sizeof text, text, nullptr);
        if (id >= 0 && H5Zfilter_avail(id) <= 0)
            fail(fmt::format("{} is compressed by filter {} ({}), which this HDF5 library does not have", name, id,
                             *text ? text : "without a name"),
                 "write it without compression, or with gzip");
    }
    return dataset;
}

// Throws if a block takes more memory than this machine has: no vector could hold it.
void InputFile::require_room(const std::string& name, const std::vector<Index>& count, Index bytes) const {
    double size = static_cast<double>(bytes);
    for (const Index n : count) size *= static_cast<double>(n);
    const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
    if (size > memory)
        fail(fmt::format("{} has shape {}; the {} numbers read from it take {:.3g} GB, but this machine has {:.3g} GB",
                         name, shape_text(shape(name)), fmt::format("{:.3g}", size / static_cast<double>(bytes)),
                         size * 1e-9, memory * 1e-9),
             "store a smaller network or fewer and shorter sequences; a damaged file may have such sizes, too");
}

std::vector<Index> InputFile::shape(const std::string& name) const {
    std::vector<Index> dims = stored_shape(name);
    if (reversed_) std::reverse(dims.begin(), dims.end());
    return dims;
}

std::vector<Index> InputFile::shape(const std::string& name, std::size_t rank) const {
    std::vector<Index> dims = shape(name);
    if (!reversed_) return dims;
    std::vector<Index> fitted;
    for (const std::size_t axis : axes_of(dims, rank)) fitted.push_back(axis < dims.size() ? dims[axis] : 1);
    return fitted;
}

std::vector<Index> InputFile::stored_shape(const std::string& name) const {
    const Hdf5Handle dataset = open_dataset(name);
    const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0) fail(fmt::format("the shape of {} cannot be read: {}", name, hdf5_reason()), write_anew);
    if (H5Sget_simple_extent_type(space) == H5S_NULL)
        fail(fmt::format("{} is empty: it has no shape and no numbers", name), "write an array to it");
    std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
    H5Sget_simple_extent_dims(space, dims.data(), nullptr);
    for (const hsize_t size : dims)
        if (size > static_cast<hsize_t>(std::numeric_limits<Index>::max()))
            fail(fmt::format("{} has a dimension of {}, more than any array", name, size), write_anew);
    return {dims.begin(), dims.end()};
}

void InputFile::require_shape(const std::string& name, const std::vector<Index>& wanted, const std::string& letters,
                              const std::string& reason) const {
    const std::vector<Index> found = shape(name, wanted.size());
    if (found == wanted) return;
    const bool turned = found.size() > 1 && std::equal(found.begin(), found.end(), wanted.rbegin(), wanted.rend());
    fail(fmt::format("{} has shape {} but must be {} = {} because {}{}", name, shape_text(found), letters,
                     shape_text(wanted), reason, turned ? "; its axes look reversed" : ""),
         turned ? order_advice() : "docs/files.md shows the layout; h5py writes a numpy array of that shape");
}

const char* InputFile::order_advice() const {
    return reversed_
               ? "the file has rows first, as h5py writes it: leave out --transposed (network.transposed in a config), "
                 "or correct the attribute layout"
               : "Julia, MATLAB and R store columns first: add --transposed (network.transposed = true in a config), "
                 "or write the attribute layout = \"column_major\" of /network (docs/files.md)";
}

template <class T>
std::vector<T> InputFile::read(const std::string& name) const {
    const std::vector<Index> dims = shape(name);
    return read<T>(name, std::vector<Index>(dims.size(), 0), dims);
}

template <class T>
std::vector<T> InputFile::read(const std::string& name, const std::vector<Index>& offset,
                               const std::vector<Index>& count) const {
    require_room(name, count, sizeof(T));
    std::vector<T> values(static_cast<std::size_t>(elements(count)));
    read(name, offset, count, values.data());
    return values;
}

template <class T>
void InputFile::read(const std::string& name, const std::vector<Index>& offset, const std::vector<Index>& count,
                     T* out) const {
    const Hdf5Handle dataset = open_dataset(name);
    const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
    if (!is_number(type))
        fail(fmt::format("{} holds {} but must hold numbers", name, kind_text(type)),
             "write it as float32 or integers");
    const Index total = elements(count);
    if (total == 0) return;
    if constexpr (std::is_integral_v<T>) {
        // HDF5 would truncate fractions and clip numbers that are too large. Such files are refused.
        if (H5Tget_class(type) == H5T_FLOAT) {
            const std::vector<double> values = read<double>(name, offset, count);
            for (Index i = 0; i < total; ++i) {
                const double value = values[static_cast<std::size_t>(i)];
                if (value != std::trunc(value) || std::abs(value) > 0x1p53)
                    fail(
                        fmt::format("{}{} is {} but must be a whole number", name, index_text(offset, count, i), value),
                        "write it as integers");
                out[i] = static_cast<T>(value);
                if (static_cast<double>(out[i]) != value)
                    fail(fmt::format("{}{} is {}, which is too large", name, index_text(offset, count, i), value),
                         "write it as integers");
            }
            return;
        }
    }
    const std::vector<Index> stored = stored_shape(name);
    std::vector<Index> first = offset, size = count;  // in the order of the file
    std::vector<T> turned;
    if (reversed_) {
        first.assign(stored.size(), 0);
        size.assign(stored.size(), 1);
        const std::vector<std::size_t> axes = axes_of({stored.rbegin(), stored.rend()}, count.size());
        for (std::size_t d = 0; d < axes.size(); ++d) {
            if (axes[d] >= stored.size()) continue;
            first[stored.size() - 1 - axes[d]] = offset[d];
            size[stored.size() - 1 - axes[d]] = count[d];
        }
        require_room(name, count, sizeof(T));
        turned.resize(static_cast<std::size_t>(total));
    }
    const Hdf5Handle memory = hdf5_space(size);
    const Hdf5Handle selection = hdf5_space(stored, first, size);
    T* const target = reversed_ ? turned.data() : out;
    if (!selection || H5Dread(dataset, hdf5_native<T>(), memory, selection, H5P_DEFAULT, target) < 0)
        fail(fmt::format("{} cannot be read: {}", name, hdf5_reason()), write_anew);
    if (reversed_) turn(turned, count, out);
    if constexpr (std::is_floating_point_v<T>) {
        for (Index i = 0; i < total; ++i)
            if (!std::isfinite(out[i]))
                fail(fmt::format(
                         "{}{} is {}", name, index_text(offset, count, i),
                         std::isnan(out[i]) ? "not a number (NaN)" : "infinite, or too large for this precision"),
                     "every value must be finite");
    }
}

void InputFile::touch(const std::string& name, const std::function<void()>& progress) const {
    const std::vector<Index> dims = shape(name);
    const Index total = elements(dims);
    if (total == 0) return;
    const Index rows = dims.empty() ? 1 : dims[0];
    if (dims.size() == 1 && holds_lists(name)) {
        std::vector<std::vector<double>> lists;
        for (Index first = 0; first < rows; first += touched_lists, progress())
            read_lists(name, first, std::min(touched_lists, rows - first), lists);
        return;
    }
    const Hdf5Handle dataset = open_dataset(name), creation(H5Dget_create_plist(dataset), H5Pclose);
    const Index step = std::max<Index>(1, touched_elements / (total / rows));
    // The library invents the numbers of chunks that were never written.
    const bool all = H5Pget_layout(creation) == H5D_CHUNKED && H5Dget_storage_size(dataset) > 0;
    const Index blocks = (rows + step - 1) / step;
    const Index every = all ? blocks / touched_blocks + 1 : std::max<Index>(1, blocks - 1);
    for (Index block = 0; block < blocks; block += every) {
        const Index first = block * step;
        std::vector<Index> offset(dims.size(), 0), count = dims;
        if (!dims.empty()) offset[0] = first, count[0] = std::min(step, rows - first);
        read<float>(name, offset, count);
        progress();
    }
}

template std::vector<float> InputFile::read(const std::string&) const;
template std::vector<double> InputFile::read(const std::string&) const;
template std::vector<std::int32_t> InputFile::read(const std::string&) const;
template std::vector<std::int64_t> InputFile::read(const std::string&) const;
template std::vector<std::uint8_t> InputFile::read(const std::string&) const;
// NOLINTBEGIN(bugprone-macro-parentheses): a type takes no parentheses
#define SPIKEFLOSS_READ(T)                                                                                            \
    template std::vector<T> InputFile::read(const std::string&, const std::vector<Index>&, const std::vector<Index>&) \
        const;                                                                                                        \
    template void InputFile::read(const std::string&, const std::vector<Index>&, const std::vector<Index>&, T*) const;
SPIKEFLOSS_READ(float)
SPIKEFLOSS_READ(double)
SPIKEFLOSS_READ(std::int32_t)
SPIKEFLOSS_READ(std::int64_t)
SPIKEFLOSS_READ(std::uint8_t)
#undef SPIKEFLOSS_READ
// NOLINTEND(bugprone-macro-parentheses)

Hdf5Handle InputFile::open_attribute(const std::string& object, const std::string& name) const {
    const std::string place = resolved(object);
    if (place.empty()) fail(fmt::format("{} is missing", object), "docs/files.md lists what a file must hold");
    if (!has_attribute(object, name))
        fail(fmt::format("attribute {} of {} is missing", name, object), "docs/files.md lists what a file must hold");
    Hdf5Handle attribute(H5Aopen_by_name(file_, place.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    if (!attribute)
        fail(fmt::format("attribute {} of {} cannot be opened: {}", name, object, hdf5_reason()), write_anew);
    const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
    if (H5Sget_simple_extent_npoints(space) != 1)
        fail(fmt::format("attribute {} of {} must be one value, not an array", name, object),
             fmt::format("in Python: file['{}'].attrs['{}'] = value", object, name));
    return attribute;
}

std::string InputFile::string_attribute(const std::string& object, const std::string& name) const {
    const Hdf5Handle attribute = open_attribute(object, name);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    if (H5Tget_class(type) != H5T_STRING)
        fail(fmt::format("attribute {} of {} must be text", name, object),
             fmt::format("in Python: file['{}'].attrs['{}'] = 'text'", object, name));
    const Hdf5Handle memory(H5Tcopy(type), H5Tclose);
    if (H5Tis_variable_str(type) > 0) {
        char* text = nullptr;
        if (H5Aread(attribute, memory, &text) < 0 || !text)
            fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()), write_anew);
        std::string value = text;
        H5free_memory(text);
        return value;
    }
    const std::size_t length = H5Tget_size(type);
    if (length > longest_text)
        fail(fmt::format("attribute {} of {} is a text of {} bytes; at most {} are read", name, object, length,
                         longest_text),
             write_anew);
    std::string value(length, '\0');
    if (H5Aread(attribute, memory, value.data()) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()), write_anew);
    value.resize(std::strlen(value.c_str()));
    // Fortran and some tools pad with spaces instead of zeros.
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) value.erase(value.find_last_not_of(' ') + 1);
    return value;
}

double InputFile::number_attribute(const std::string& object, const std::string& name) const {
    const Hdf5Handle attribute = open_attribute(object, name);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    if (!is_number(type))
        fail(fmt::format("attribute {} of {} must be a number", name, object),
             fmt::format("in Python: file['{}'].attrs['{}'] = 1.0", object, name));
    double value = 0.0;
    if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()), write_anew);
    if (!std::isfinite(value))
        fail(fmt::format("attribute {} of {} is not finite", name, object), "every value must be finite");
    return value;
}

std::int64_t InputFile::integer_attribute(const std::string& object, const std::string& name) const {
    const Hdf5Handle attribute = open_attribute(object, name);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    if (H5Tget_class(type) == H5T_FLOAT || !is_number(type)) {
        const double value = number_attribute(object, name);
        if (value != std::trunc(value) || std::abs(value) > 0x1p53)
            fail(fmt::format("attribute {} of {} is {} but must be a whole number", name, object, value),
                 fmt::format("in Python: file['{}'].attrs['{}'] = 1", object, name));
        return static_cast<std::int64_t>(value);
    }
    std::int64_t value = 0;
    if (H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()), write_anew);
    return value;
}

}  // namespace spikefloss
