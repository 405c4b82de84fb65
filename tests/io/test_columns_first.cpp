// Column-major files (Julia, MATLAB, R): with the statement they are read correctly; without it they are
// detected.
#include "io/files.hpp"

#include <fstream>

namespace spikefloss::test {
namespace {

constexpr hsize_t N = 5, M = 3, O = 2, T = 7, B = 4, K = 2, D = 2 * N;

enum class Kind { rows_first, columns_first, matlab };

// A dataset whose elements [i, j, ...] all have different values. MATLAB stores vectors as matrices [1, N].
void put(Editor& file, const std::string& name, std::vector<hsize_t> dims, double scale, Kind kind) {
    std::vector<double> values;
    hsize_t total = 1;
    for (const hsize_t size : dims) total *= size;
    std::vector<hsize_t> index(dims.size(), 0);
    for (hsize_t i = 0; i < total; ++i) {
        double value = 0.0;
        for (std::size_t d = 0; d < dims.size(); ++d) value = value * 10 + static_cast<double>(index[d]);
        values.push_back(value * scale);
        // Rows first: the last index is the fastest; columns first: the first one.
        for (std::size_t d = 0; d < dims.size(); ++d) {
            const std::size_t axis = kind == Kind::rows_first ? dims.size() - 1 - d : d;
            if (++index[axis] < dims[axis]) break;
            index[axis] = 0;
        }
    }
    if (kind != Kind::rows_first) std::reverse(dims.begin(), dims.end());
    if (kind == Kind::matlab && dims.size() == 1) dims.insert(dims.begin(), 1);
    file.dataset(name, dims, values);
}

struct Sizes {
    hsize_t M = 3, O = 2;
};

void write(const std::string& path, Kind kind, Sizes sizes = {}) {
    Editor file(path, true);
    file.group("/network");
    file.group("/sequences");
    file.string("/network", "format", "spikefloss-network");
    file.number("/network", "version", 1, H5T_STD_I64LE);
    file.number("/network", "threshold", 1.0);
    file.number("/network", "sharpness", 5.0);
    for (const auto& [name, value] :
         {std::pair("reset", "zero"), {"surrogate", "fast_sigmoid"}, {"readout", "membrane"}})
        file.string("/network", name, value);
    put(file, "/network/w_in", {N, sizes.M}, 1.0, kind);
    put(file, "/network/w_rec", {N, N}, 1.0, kind);
    put(file, "/network/w_out", {sizes.O, N}, 1.0, kind);
    for (const char* name : {"/network/bias", "/network/alpha", "/network/beta"}) put(file, name, {N}, 0.125, kind);
    for (const char* name : {"/network/bias_out", "/network/kappa"}) put(file, name, {sizes.O}, 0.125, kind);
    put(file, "/sequences/x", {T, B, sizes.M}, 1.0, kind);
    put(file, "/sequences/target", {T, B, sizes.O}, 1.0 / 1024, kind);
    put(file, "/sequences/q0", {B, D, K}, 1.0, kind);
}

class ColumnsFirst : public testing::Test {
protected:
    std::string file(const std::string& name, Kind kind, Sizes sizes = {}) const {
        const std::string path = folder / fmt::format("{}{}.h5", name, world_rank());
        write(path, kind, sizes);
        return path;
    }
    // Both files give the same numbers to every rank of every grid.
    void expect_same(const std::string& path, const std::string& other, bool transposed, Sizes sizes = {}) const {
        const NetworkShape shape{static_cast<Index>(N), static_cast<Index>(sizes.M), static_cast<Index>(sizes.O)};
        for (const GridShape grid_shape : all_grids()) {
            const ProcessGrid grid(MPI_COMM_WORLD, grid_shape);
            if (grid_shape.neuron_shards > static_cast<int>(N) || grid_shape.batch_shards > static_cast<int>(B))
                continue;
            const int P = grid_shape.neuron_shards, p = grid.neuron_shard();
            expect_equal(read_network(path, P, p), read_network(other, P, p, transposed));
            const SequencesFile a = read_sequences(path, shape, 2, grid);
            const SequencesFile b = read_sequences(other, shape, 2, grid, transposed);
            EXPECT_EQ(a.batch.x, b.batch.x);
            EXPECT_EQ(a.batch.target, b.batch.target);
            EXPECT_EQ(a.q0, b.q0);
            EXPECT_EQ(a.q0_columns, b.q0_columns);
        }
    }
    const Folder folder;
};

TEST_F(ColumnsFirst, AreReadAlikeWhenTheCallerSaysSo) {
    expect_same(file("rows", Kind::rows_first), file("columns", Kind::columns_first), true);
    expect_same(file("rows", Kind::rows_first), file("matlab", Kind::matlab), true);
}

TEST_F(ColumnsFirst, AreReadAlikeByTheAttribute) {
    const std::string rows = file("rows", Kind::rows_first), columns = file("columns", Kind::columns_first);
    Editor(columns).string("/network", "layout", "column_major");
    expect_same(rows, columns, false);
    expect_same(rows, columns, true);  // two statements do not cancel each other
    Editor(rows).string("/network", "layout", "row_major");
    expect_same(rows, columns, false);
    Editor(rows).string("/network", "layout", "fortran");
    expect_contains(error_of(Exit::bad_file, [&] { read_network(rows, 1, 0); }),
                    "must be 'row_major' or 'column_major'");
}

TEST_F(ColumnsFirst, ADimensionOfOneMayBeMissingAtTheEnd) {
    const Sizes one{1, 1};
    const std::string rows = file("rows", Kind::rows_first, one), matlab = file("matlab", Kind::matlab, one);
    {
        Editor edit(matlab);  // [T, B, 1] is [T, B] in MATLAB
        put(edit, "/sequences/x", {T, B}, 10.0, Kind::columns_first);
        put(edit, "/sequences/target", {T, B}, 10.0 / 1024, Kind::columns_first);
    }
    expect_same(rows, matlab, true, one);
}

TEST_F(ColumnsFirst, AreRecognised) {
    const auto network = [](const std::string& path, bool transposed) {
        return error_of(Exit::bad_file, [&] { read_network(path, 1, 0, transposed); });
    };
    for (const Sizes sizes : {Sizes{}, Sizes{N, 2}, Sizes{3, N}}) {
        for (const Kind kind : {Kind::columns_first, Kind::matlab}) {
            const std::string said = network(file("columns", kind, sizes), false);
            expect_contains(said, "the axes of its arrays look reversed");
            expect_contains(said, "--transposed");
            expect_contains(said, "Julia, MATLAB and R");
        }
        expect_contains(network(file("rows", Kind::rows_first, sizes), true), "leave out --transposed");
    }
    const ProcessGrid self(MPI_COMM_SELF, {1, 1});
    const auto sequences = [&](const std::function<void(Editor&)>& change) {
        const std::string path = file("mixed", Kind::rows_first);
        Editor edit(path);
        change(edit);
        return error_of(Exit::bad_file, [&] { read_sequences(path, {N, M, O}, 2, self); });
    };
    for (const auto& [name, dims] : {std::pair("/sequences/x", std::vector<hsize_t>{T, B, M}),
                                     {"/sequences/target", {T, B, O}},
                                     {"/sequences/q0", {B, D, K}}}) {
        const std::string said = sequences([&](Editor& edit) { put(edit, name, dims, 0.0, Kind::columns_first); });
        expect_contains(said, "look reversed");
        expect_contains(said, name);
    }
}

TEST_F(ColumnsFirst, AnErrorNamesTheIndexOfTheTables) {
    const std::string path = file("columns", Kind::columns_first);
    Editor(path).set_element("/network/w_in", {2, 4}, NAN);  // [M, N] in the file
    expect_contains(error_of(Exit::bad_file, [&] { read_network(path, 1, 0, true); }),
                    "/network/w_in[4, 2] is not a number");
}

}  // namespace
}  // namespace spikefloss::test
