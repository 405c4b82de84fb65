// Common code of the tests of files: a folder that all ranks see, every grid of the world, a network given by formulas
// of the global index, and functions that make and damage HDF5 files without the program's own writer.
#pragma once

#include "core/error.hpp"
#include "io/network_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace spikefloss::test {

inline int world_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

// Every PxQ of the running ranks.
inline std::vector<GridShape> all_grids() {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    std::vector<GridShape> shapes;
    for (int p = 1; p <= ranks; ++p)
        if (ranks % p == 0) shapes.push_back({p, ranks / p});
    return shapes;
}

inline std::string text(GridShape shape) { return fmt::format("{}x{}", shape.neuron_shards, shape.batch_shards); }

// A new folder with the same name on all ranks, removed at the end. Collective.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "spikefloss_io_XXXXXX").string();
        if (world_rank() == 0 && !mkdtemp(name.data())) std::abort();
        MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, MPI_COMM_WORLD);
        path_ = name;
    }
    ~Folder() {
        MPI_Barrier(MPI_COMM_WORLD);
        std::error_code code;
        if (world_rank() == 0) std::filesystem::remove_all(path_, code);
    }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }
    // Names of the files in it, sorted.
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(path_)) found.push_back(entry.path().filename());
        std::sort(found.begin(), found.end());
        return found;
    }

private:
    std::string path_;
};

// Runs work. It must throw an Error with this code. Returns the text of the error.
inline std::string error_of(Exit code, const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no error was thrown";
    return "";
}

inline void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

// The value of a parameter at a global place. It is in [0, 1), so it can be a decay, and it is exact in float.
inline float formula(int salt, Parameter parameter, Index row, Index col) {
    return static_cast<float>((salt * 31 + static_cast<int>(parameter) * 101 + row * 37 + col * 11) % 1000) / 1024.0f;
}

inline std::vector<float> formula_values(int salt, const ParameterLayout& layout) {
    std::vector<float> values(static_cast<std::size_t>(layout.size()));
    for (const Segment& s : layout.segments())
        for (Index i = 0; i < s.size(); ++i)
            values[static_cast<std::size_t>(s.offset + i)] =
                formula(salt, s.parameter, s.row + i / s.cols, s.col + i % s.cols);
    return values;
}

inline HostNetwork example_network(NetworkShape shape, const ProcessGrid& grid, int salt = 1) {
    HostNetwork network;
    network.model = {{0.75f, Reset::subtract, 0, Surrogate::triangle, 3.5f}, Readout::spikes};
    network.layout = ParameterLayout(shape, grid.shape().neuron_shards, grid.neuron_shard());
    network.values = formula_values(salt, network.layout);
    return network;
}

inline void expect_equal(const HostNetwork& a, const HostNetwork& b) {
    EXPECT_EQ(a.layout.shape(), b.layout.shape());
    EXPECT_EQ(a.values, b.values);
    EXPECT_EQ(a.model.neuron.threshold, b.model.neuron.threshold);
    EXPECT_EQ(a.model.neuron.sharpness, b.model.neuron.sharpness);
    EXPECT_EQ(a.model.neuron.reset, b.model.neuron.reset);
    EXPECT_EQ(a.model.neuron.reset_delay, b.model.neuron.reset_delay);
    EXPECT_EQ(a.model.neuron.surrogate, b.model.neuron.surrogate);
    EXPECT_EQ(a.model.readout, b.model.readout);
}

// Makes and changes files with the plain library in one process, as a user does from Python.
class Editor {
public:
    explicit Editor(const std::string& path, bool create = false)
        : file_(create ? H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)
                       : H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)) {
        EXPECT_GE(file_, 0) << path;
    }
    ~Editor() { H5Fclose(file_); }
    Editor(const Editor&) = delete;

    void group(const std::string& name) {
        H5Gclose(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
    void remove(const std::string& name) { EXPECT_GE(H5Ldelete(file_, name.c_str(), H5P_DEFAULT), 0) << name; }
    hid_t id() const { return file_; }
    bool has(const std::string& name) { return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0; }
    // Writes or replaces a dataset of the type `type` on disk, from doubles (converted by the library).
    void dataset(const std::string& name, const std::vector<hsize_t>& dims, const std::vector<double>& values,
                 hid_t type = H5T_IEEE_F32LE) {
        if (has(name)) remove(name);
        const hid_t space = dims.empty() ? H5Screate(H5S_SCALAR)
                                         : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
        const hid_t set = H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        EXPECT_GE(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
        H5Dclose(set);
        H5Sclose(space);
    }
    // Chunks of at most 200 along each dimension. Without numbers, no chunk is written.
    void chunked(const std::string& name, const std::vector<hsize_t>& dims, bool written, double value = 0.0) {
        if (has(name)) remove(name);
        const int rank = static_cast<int>(dims.size());
        std::vector<hsize_t> chunk = dims;
        for (hsize_t& size : chunk) size = std::min<hsize_t>(size, 200);
        const hid_t create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(rank, dims.data(), nullptr);
        H5Pset_chunk(create, rank, chunk.data());
        const hid_t set = H5Dcreate2(file_, name.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
        EXPECT_GE(set, 0) << name;
        if (written) {
            const std::vector<double> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)), value);
            EXPECT_GE(H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
        }
        H5Dclose(set);
        H5Sclose(space);
        H5Pclose(create);
    }
    // The same with as many copies of one value as the shape needs.
    void fill(const std::string& name, const std::vector<hsize_t>& dims, double value, hid_t type = H5T_IEEE_F32LE) {
        hsize_t count = 1;
        for (hsize_t d : dims) count *= d;
        dataset(name, dims, std::vector<double>(count, value), type);
    }
    // A dataset of numpy bools, as h5py stores them: an enum of 8-bit integers.
    void bools(const std::string& name, const std::vector<hsize_t>& dims, const std::vector<signed char>& values) {
        if (has(name)) remove(name);
        const hid_t type = bool_type();
        const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
        const hid_t set = H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        EXPECT_GE(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
        H5Dclose(set);
        H5Sclose(space);
        H5Tclose(type);
    }
    void text_dataset(const std::string& name, hsize_t count) {
        const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &count, nullptr);
        H5Tset_size(type, 4);
        H5Dclose(H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
        H5Tclose(type);
    }
    void set_element(const std::string& name, const std::vector<hsize_t>& index, double value) {
        const hid_t set = H5Dopen2(file_, name.c_str(), H5P_DEFAULT), space = H5Dget_space(set);
        const std::vector<hsize_t> one(index.size(), 1);
        H5Sselect_hyperslab(space, H5S_SELECT_SET, index.data(), nullptr, one.data(), nullptr);
        const hid_t memory = H5Screate(H5S_SCALAR);
        EXPECT_GE(H5Dwrite(set, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, &value), 0) << name;
        H5Sclose(memory);
        H5Sclose(space);
        H5Dclose(set);
    }
    void number(const std::string& object, const std::string& name, double value, hid_t type = H5T_IEEE_F64LE) {
        write(object, name, type, H5T_NATIVE_DOUBLE, &value);
    }
    void boolean(const std::string& object, const std::string& name, signed char value) {
        const hid_t type = bool_type();
        write(object, name, type, type, &value);
        H5Tclose(type);
    }
    // h5py: str is of variable length, numpy.bytes_ of fixed length.
    void string(const std::string& object, const std::string& name, const std::string& value, bool variable = true) {
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, variable ? H5T_VARIABLE : value.size());
        H5Tset_strpad(type, variable ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
        const char* data = value.c_str();
        write(object, name, type, type, variable ? static_cast<const void*>(&data) : data);
        H5Tclose(type);
    }
    void remove_attribute(const std::string& object, const std::string& name) {
        EXPECT_GE(H5Adelete_by_name(file_, object.c_str(), name.c_str(), H5P_DEFAULT), 0) << name;
    }

private:
    static hid_t bool_type() {
        const hid_t type = H5Tenum_create(H5T_STD_I8LE);
        signed char value = 0;
        H5Tenum_insert(type, "FALSE", &value);
        value = 1;
        H5Tenum_insert(type, "TRUE", &value);
        return type;
    }
    void write(const std::string& object, const std::string& name, hid_t type, hid_t memory, const void* data) {
        if (H5Aexists_by_name(file_, object.c_str(), name.c_str(), H5P_DEFAULT) > 0) remove_attribute(object, name);
        const hid_t space = H5Screate(H5S_SCALAR);
        const hid_t attribute =
            H5Acreate_by_name(file_, object.c_str(), name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        EXPECT_GE(H5Awrite(attribute, memory, data), 0) << name;
        H5Aclose(attribute);
        H5Sclose(space);
    }

    hid_t file_;
};

}  // namespace spikefloss::test
