// Names of groups and datasets of texts: what NIR files and the names of classes hold beside numbers.
#include "core/error.hpp"
#include "io/hdf5_file.hpp"

#include <cstring>

namespace spikefloss {
namespace {

constexpr Index most_texts = Index(1) << 22;   // of a dataset
constexpr std::size_t longest_text = 1 << 16;  // bytes of one
constexpr std::size_t most_members = 1 << 20;  // of a group

const char* const write_anew = "the file is truncated or damaged: copy or write it again";

Hdf5Handle text_type() {
    Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

}  // namespace

std::vector<std::string> InputFile::members(const std::string& group) const {
    const std::string place = resolved(group);
    if (place.empty()) fail(fmt::format("group {} is missing", group), "docs/nir.md lists what a NIR file must hold");
    std::vector<std::string> names;
    const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* data) -> herr_t {
        auto& all = *static_cast<std::vector<std::string>*>(data);
        all.emplace_back(name);
        return all.size() < most_members ? 0 : -1;
    };
    if (H5Literate_by_name(file_, place.c_str(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names, H5P_DEFAULT) < 0)
        fail(fmt::format("the names in {} cannot be read: {}", group, hdf5_reason()), write_anew);
    return names;
}

bool InputFile::holds_text(const std::string& name) const { return class_of(name) == H5T_STRING; }

bool InputFile::holds_numbers(const std::string& name) const {
    const H5T_class_t kind = class_of(name);
    return kind == H5T_INTEGER || kind == H5T_FLOAT || kind == H5T_ENUM;
}

// H5T_NO_CLASS unless it is a dataset.
H5T_class_t InputFile::class_of(const std::string& name) const {
    const std::string place = resolved(name);
    H5O_info_t object = {};
    if (place.empty() || H5Oget_info_by_name2(file_, place.c_str(), &object, H5O_INFO_BASIC, H5P_DEFAULT) < 0 ||
        object.type != H5O_TYPE_DATASET)
        return H5T_NO_CLASS;
    const Hdf5Handle dataset = open_dataset(name), type(H5Dget_type(dataset), H5Tclose);
    return type ? H5Tget_class(type) : H5T_NO_CLASS;
}

std::vector<std::string> InputFile::texts(const std::string& name) const {
    const Hdf5Handle dataset = open_dataset(name), type(H5Dget_type(dataset), H5Tclose);
    if (H5Tget_class(type) != H5T_STRING) fail(fmt::format("{} holds no text", name), "write it as strings");
    Index count = 1;
    for (const Index size : stored_shape(name)) {
        if (size > most_texts || (count *= size) > most_texts)
            fail(fmt::format("{} holds more than {} texts", name, most_texts), write_anew);
    }
    if (count == 0) return {};
    std::vector<std::string> values(static_cast<std::size_t>(count));
    if (H5Tis_variable_str(type) > 0) {
        const Hdf5Handle memory(H5Tcopy(type), H5Tclose), space(H5Dget_space(dataset), H5Sclose);
        std::vector<char*> pointers(values.size(), nullptr);
        if (H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0)
            fail(fmt::format("{} cannot be read: {}", name, hdf5_reason()), write_anew);
        for (std::size_t i = 0; i < values.size(); ++i)
            if (pointers[i]) values[i].assign(pointers[i], strnlen(pointers[i], longest_text));
        H5Dvlen_reclaim(memory, space, H5P_DEFAULT, pointers.data());
        return values;
    }
    const std::size_t length = H5Tget_size(type);
    if (length > longest_text)
        fail(fmt::format("{} holds texts of {} bytes; at most {} are read", name, length, longest_text), write_anew);
    require_room(name, {count}, static_cast<Index>(length));
    std::vector<char> bytes(values.size() * length);
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0)
        fail(fmt::format("{} cannot be read: {}", name, hdf5_reason()), write_anew);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i].assign(bytes.data() + i * length, strnlen(bytes.data() + i * length, length));
        values[i].erase(values[i].find_last_not_of(' ') + 1);  // what Fortran and MATLAB fill with
    }
    return values;
}

void OutputFile::texts(const std::string& name, const std::vector<Index>& dims,
                       const std::vector<std::string>& values) {
    require(open_ && grid_.ranks() == 1, Exit::internal,
            "texts written to a file that is not open, or by several ranks");
    const std::size_t cut = name.rfind('/');
    Index bytes = object_overhead;
    std::vector<const char*> pointers;
    for (const std::string& value : values) {
        bytes += 64 + 2 * static_cast<Index>(value.size());
        pointers.push_back(value.c_str());
    }
    reserve(bytes);
    agree([&] {
        if (cut > 0) ensure_group(name.substr(0, cut));
        const Hdf5Handle type = text_type(), space = hdf5_space(dims);
        const Hdf5Handle dataset(H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                 H5Dclose);
        require(
            dataset && (values.empty() || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) >= 0),
            Exit::storage, problem(fmt::format("dataset {}: {}", name, hdf5_reason())),
            "check whether the storage is full or faulty; an earlier file is unchanged");
    });
}

}  // namespace spikefloss
