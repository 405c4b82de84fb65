// Helper functions for the HDF5 C interface.
#include "io/hdf5_handle.hpp"

namespace spikefloss {

std::recursive_mutex& hdf5_mutex() {
    static std::recursive_mutex mutex;
    return mutex;
}

void silence_hdf5() { [[maybe_unused]] static const herr_t once = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

std::string hdf5_reason() {
    std::string reason;
    const auto first = [](unsigned, const H5E_error2_t* error, void* text) -> herr_t {
        if (error->desc) *static_cast<std::string*>(text) = error->desc;
        return 1;  // stop at the innermost entry
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first, &reason);
    return reason;
}

template <>
hid_t hdf5_native<float>() {
    return H5T_NATIVE_FLOAT;
}
template <>
hid_t hdf5_native<double>() {
    return H5T_NATIVE_DOUBLE;
}
template <>
hid_t hdf5_native<std::int32_t>() {
    return H5T_NATIVE_INT32;
}
template <>
hid_t hdf5_native<std::int64_t>() {
    return H5T_NATIVE_INT64;
}
template <>
hid_t hdf5_native<std::uint8_t>() {
    return H5T_NATIVE_UINT8;
}

std::string shape_text(const std::vector<Index>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

Hdf5Handle hdf5_space(const std::vector<Index>& dims) {
    if (dims.empty()) return {H5Screate(H5S_SCALAR), H5Sclose};
    const std::vector<hsize_t> sizes(dims.begin(), dims.end());
    return {H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose};
}

Hdf5Handle hdf5_space(const std::vector<Index>& dims, const std::vector<Index>& offset,
                      const std::vector<Index>& count) {
    Hdf5Handle space = hdf5_space(dims);
    if (dims.empty()) return space;
    const std::vector<hsize_t> begin(offset.begin(), offset.end()), size(count.begin(), count.end());
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, begin.data(), nullptr, size.data(), nullptr) < 0) return {};
    return space;
}

}  // namespace spikefloss
