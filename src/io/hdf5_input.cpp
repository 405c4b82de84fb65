// Reads HDF5 files with the library's ordinary driver and says precisely what does not fit.
#include "core/error.hpp"
#include "io/hdf5_file.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <type_traits>

namespace spikefloss {
namespace {

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

InputFile::InputFile(std::string path) : path_(std::move(path)) {
    silence_hdf5();
    std::error_code code;
    const auto status = std::filesystem::status(path_, code);
    if (status.type() == std::filesystem::file_type::not_found) fail("there is no such file", "check the path");
    if (std::filesystem::is_directory(status)) fail("this is a folder, not a file", "give the path of an HDF5 file");
    if (std::FILE* file = std::fopen(path_.c_str(), "rb"))
        std::fclose(file);
    else
        fail(fmt::format("cannot be opened: {}", std::strerror(errno)), "check who may read it");
    const htri_t is_hdf5 = H5Fis_hdf5(path_.c_str());
    if (is_hdf5 <= 0)
        fail("this is not an HDF5 file, or its beginning is damaged",
             "write it with h5py or another HDF5 library; docs/files.md shows how");
    Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_file_locking(access, true, true);  // where the file system has no locks, read without
    file_ = Hdf5Handle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
    if (!file_)
        fail(fmt::format("the HDF5 library cannot open it: {}", hdf5_reason()),
             "the file is truncated, damaged or still being written: copy or write it anew");
}

void InputFile::fail(const std::string& problem, const std::string& suggestion) const {
    throw Error(Exit::bad_file, path_ + ": " + problem, suggestion);
}

bool InputFile::has(const std::string& name) const {
    // Every group on the way has to be asked for by itself.
    for (std::size_t end = name.find('/', 1); end != std::string::npos; end = name.find('/', end + 1))
        if (H5Lexists(file_, name.substr(0, end).c_str(), H5P_DEFAULT) <= 0) return false;
    return name == "/" ||
           (H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0 && H5Oexists_by_name(file_, name.c_str(), H5P_DEFAULT) > 0);
}

bool InputFile::has_attribute(const std::string& object, const std::string& name) const {
    return has(object) && H5Aexists_by_name(file_, object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

Hdf5Handle InputFile::open_dataset(const std::string& name) const {
    if (!has(name)) fail(fmt::format("dataset {} is missing", name), "docs/files.md lists what a file must hold");
    Hdf5Handle dataset(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!dataset) fail(fmt::format("{} cannot be opened as a dataset: {}", name, hdf5_reason()));
    return dataset;
}

std::vector<Index> InputFile::shape(const std::string& name) const {
    const Hdf5Handle dataset = open_dataset(name);
    const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0) fail(fmt::format("the shape of {} cannot be read: {}", name, hdf5_reason()));
    std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
    H5Sget_simple_extent_dims(space, dims.data(), nullptr);
    return {dims.begin(), dims.end()};
}

void InputFile::require_shape(const std::string& name, const std::vector<Index>& wanted, const std::string& letters,
                              const std::string& reason) const {
    const std::vector<Index> found = shape(name);
    if (found != wanted)
        fail(fmt::format("{} has shape {} but must be {} = {} because {}", name, shape_text(found), letters,
                         shape_text(wanted), reason),
             "docs/files.md shows the layout; h5py writes a numpy array of that shape");
}

template <class T>
std::vector<T> InputFile::read(const std::string& name) const {
    const std::vector<Index> dims = shape(name);
    return read<T>(name, std::vector<Index>(dims.size(), 0), dims);
}

template <class T>
std::vector<T> InputFile::read(const std::string& name, const std::vector<Index>& offset,
                               const std::vector<Index>& count) const {
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
        // HDF5 would cut fractions off and clip what is too large: such files are refused.
        if (H5Tget_class(type) == H5T_FLOAT) {
            const std::vector<double> values = read<double>(name, offset, count);
            for (Index i = 0; i < total; ++i) {
                const double value = values[static_cast<std::size_t>(i)];
                if (value != std::trunc(value) || std::abs(value) > 0x1p53)
                    fail(fmt::format("{}{} is {} but must be a whole number", name, index_text(offset, count, i),
                                     value));
                out[i] = static_cast<T>(value);
                if (static_cast<double>(out[i]) != value)
                    fail(fmt::format("{}{} is {}, which is too large", name, index_text(offset, count, i), value));
            }
            return;
        }
    }
    const Hdf5Handle memory = hdf5_space(count);
    const Hdf5Handle selection = hdf5_space(shape(name), offset, count);
    if (!selection || H5Dread(dataset, hdf5_native<T>(), memory, selection, H5P_DEFAULT, out) < 0)
        fail(fmt::format("{} cannot be read: {}", name, hdf5_reason()),
             "the file is truncated or damaged: copy or write it anew");
    if constexpr (std::is_floating_point_v<T>) {
        for (Index i = 0; i < total; ++i)
            if (!std::isfinite(out[i]))
                fail(fmt::format(
                         "{}{} is {}", name, index_text(offset, count, i),
                         std::isnan(out[i]) ? "not a number (NaN)" : "infinite, or too large for this precision"),
                     "every value must be finite");
    }
}

template std::vector<float> InputFile::read(const std::string&) const;
template std::vector<double> InputFile::read(const std::string&) const;
template std::vector<std::int32_t> InputFile::read(const std::string&) const;
template std::vector<std::int64_t> InputFile::read(const std::string&) const;
template std::vector<std::uint8_t> InputFile::read(const std::string&) const;
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

Hdf5Handle InputFile::open_attribute(const std::string& object, const std::string& name) const {
    if (!has(object)) fail(fmt::format("{} is missing", object), "docs/files.md lists what a file must hold");
    if (!has_attribute(object, name))
        fail(fmt::format("attribute {} of {} is missing", name, object), "docs/files.md lists what a file must hold");
    Hdf5Handle attribute(H5Aopen_by_name(file_, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    if (!attribute) fail(fmt::format("attribute {} of {} cannot be opened: {}", name, object, hdf5_reason()));
    const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
    if (H5Sget_simple_extent_npoints(space) != 1)
        fail(fmt::format("attribute {} of {} must be one value, not an array", name, object));
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
            fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()));
        std::string value = text;
        H5free_memory(text);
        return value;
    }
    std::string value(H5Tget_size(type), '\0');
    if (H5Aread(attribute, memory, value.data()) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()));
    value.resize(std::strlen(value.c_str()));
    // Fortran and some tools pad with spaces instead of zeros.
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) value.erase(value.find_last_not_of(' ') + 1);
    return value;
}

double InputFile::number_attribute(const std::string& object, const std::string& name) const {
    const Hdf5Handle attribute = open_attribute(object, name);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    if (!is_number(type)) fail(fmt::format("attribute {} of {} must be a number", name, object));
    double value = 0.0;
    if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()));
    if (!std::isfinite(value)) fail(fmt::format("attribute {} of {} is not finite", name, object));
    return value;
}

std::int64_t InputFile::integer_attribute(const std::string& object, const std::string& name) const {
    const Hdf5Handle attribute = open_attribute(object, name);
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    if (H5Tget_class(type) == H5T_FLOAT || !is_number(type)) {
        const double value = number_attribute(object, name);
        if (value != std::trunc(value) || std::abs(value) > 0x1p53)
            fail(fmt::format("attribute {} of {} is {} but must be a whole number", name, object, value));
        return static_cast<std::int64_t>(value);
    }
    std::int64_t value = 0;
    if (H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0)
        fail(fmt::format("attribute {} of {} cannot be read: {}", name, object, hdf5_reason()));
    return value;
}

}  // namespace spikefloss
