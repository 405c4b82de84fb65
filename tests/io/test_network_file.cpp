// /network and /sequences: golden files are read as by their own loader; any grid reads the files of any other.
#include "io/files.hpp"
#include "io/hdf5_checksum.hpp"

namespace spikefloss::test {
namespace {

std::string golden(const std::string& name) { return std::string(SPIKEFLOSS_TEST_DATA) + "/" + name + ".h5"; }

// A dataset of a golden file, read by the plain library and converted to double.
std::vector<double> plain(const std::string& path, const std::string& name) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT),
                set = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
    const hid_t space = H5Dget_space(set);
    std::vector<double> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
    EXPECT_GE(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
    H5Sclose(space);
    H5Dclose(set);
    H5Fclose(file);
    return values;
}

TEST(GoldenFiles, AttributesAreRead) {
    const HostNetwork binary = read_network(golden("binary_units"), 1, 0);
    EXPECT_EQ(binary.model.neuron.reset, Reset::none);
    EXPECT_EQ(binary.model.neuron.surrogate, Surrogate::fast_sigmoid);
    EXPECT_EQ(binary.model.neuron.sharpness, 0.5f);
    EXPECT_EQ(binary.model.neuron.threshold, 1.0f);
    EXPECT_EQ(binary.model.readout, Readout::membrane);
    EXPECT_EQ(binary.layout.shape(), (NetworkShape{40, 1, 1}));
    const HostNetwork subtract = read_network(golden("lif_subtract_reset"), 1, 0);
    EXPECT_EQ(subtract.model.neuron.reset, Reset::subtract);
    EXPECT_EQ(subtract.model.neuron.reset_delay, 1);
    EXPECT_EQ(read_network(golden("immediate_zero_reset"), 1, 0).model.neuron.reset_delay, 0);
}

TEST(GoldenFiles, EveryShardHoldsItsPartOfTheParameters) {
    const std::string path = golden("dyadic_weights");
    for (GridShape shape : all_grids()) {
        const ProcessGrid grid(MPI_COMM_WORLD, shape);
        const HostNetwork network = read_network(path, shape.neuron_shards, grid.neuron_shard());
        EXPECT_EQ(network.layout.shape(), (NetworkShape{48, 6, 2}));
        for (const Segment& s : network.layout.segments()) {
            if (s.parameter == Parameter::initial_current || s.parameter == Parameter::initial_membrane) {
                for (Index i = 0; i < s.size(); ++i)
                    EXPECT_EQ(network.values[static_cast<std::size_t>(s.offset + i)], 0.0f);
                continue;
            }
            const auto whole = plain(path, "/network/" + std::string(name_of(s.parameter)));
            for (Index r = 0; r < s.rows; ++r)
                for (Index c = 0; c < s.cols; ++c)
                    EXPECT_EQ(network.values[static_cast<std::size_t>(s.offset + r * s.cols + c)],
                              whole[static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c)])
                        << text(shape) << " " << name_of(s.parameter) << " " << r << " " << c;
        }
    }
}

TEST(GoldenFiles, EveryShardHoldsItsPartOfTheSequences) {
    const std::string path = golden("dyadic_weights");
    const Index N = 48, M = 6, O = 2, T = 50, B = 4, k = 9;
    const auto x = plain(path, "/sequences/x"), target = plain(path, "/sequences/target"),
               mask = plain(path, "/sequences/mask"), q0 = plain(path, "/sequences/q0");
    for (GridShape shape : all_grids()) {
        if (shape.batch_shards > B) continue;
        SCOPED_TRACE(text(shape));
        const ProcessGrid grid(MPI_COMM_WORLD, shape);
        const SequencesFile file = read_sequences(path, {N, M, O}, 2, grid);
        const BlockRange mine = grid.sequences_of(B), neurons = grid.neurons_of(N);
        const Index b = mine.size(), n = neurons.size();
        EXPECT_EQ(file.total, B);
        EXPECT_EQ(file.q0_columns, k);
        EXPECT_TRUE(file.has_targets);
        EXPECT_EQ(file.batch.steps, T);
        EXPECT_EQ(file.batch.sequences, b);
        EXPECT_EQ(file.batch.inputs, M);
        EXPECT_EQ(file.batch.outputs, O);
        EXPECT_EQ(file.batch.loss, LossKind::binary_cross_entropy);
        const auto at = [](const auto& v, Index i) { return static_cast<float>(v[static_cast<std::size_t>(i)]); };
        for (Index t = 0; t < T; ++t) {
            for (Index s = 0; s < b; ++s) {
                EXPECT_EQ(at(file.batch.mask, t * b + s), at(mask, t));
                for (Index m = 0; m < M; ++m)
                    EXPECT_EQ(at(file.batch.x, (t * b + s) * M + m), at(x, (t * B + mine.begin + s) * M + m));
                for (Index o = 0; o < O; ++o)
                    EXPECT_EQ(at(file.batch.target, (t * b + s) * O + o), at(target, (t * B + mine.begin + s) * O + o));
            }
        }
        EXPECT_EQ(static_cast<Index>(file.q0.size()), b * k * 2 * n);
        for (Index s = 0; s < b; ++s)
            for (Index j = 0; j < k; ++j)
                for (Index part = 0; part < 2; ++part)
                    for (Index i = 0; i < n; ++i)
                        EXPECT_EQ(at(file.q0, ((s * k + j) * 2 + part) * n + i),
                                  at(q0, ((mine.begin + s) * 2 * N + part * N + neurons.begin + i) * k + j));
    }
}

TEST(GoldenFiles, WithoutCurrentTheBasesAreTheMembranes) {
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    const std::string path = golden("binary_units");
    const SequencesFile file = read_sequences(path, {40, 1, 1}, 1, grid);
    const auto q0 = plain(path, "/sequences/q0");  // [4, 40, 16]
    EXPECT_EQ(file.q0_columns, 16);
    EXPECT_EQ(file.q0[(1 * 16 + 5) * 40 + 7], static_cast<float>(q0[(1 * 40 + 7) * 16 + 5]));
}

TEST(NetworkFile, AnyGridReadsWhatAnyOtherWrote) {
    const Folder folder;
    for (NetworkShape shape : {NetworkShape{13, 3, 2}, NetworkShape{6, 1, 1}}) {
        const int delay = shape.neurons == 6 ? 0 : 1;
        const auto example = [&](const ProcessGrid& grid) {
            HostNetwork network = example_network(shape, grid);
            network.model.neuron.reset_delay = delay;
            return network;
        };
        for (GridShape writer : all_grids()) {
            const ProcessGrid grid(MPI_COMM_WORLD, writer);
            const std::string path = folder / text(writer) + ".h5";
            OutputFile file(grid, path);
            write_network(file, grid, example(grid));
            file.finish();
            EXPECT_EQ(checksum_fault(path, grid), "");
            // Version 1 as before, where the attribute is not needed.
            EXPECT_EQ(InputFile(path).integer_attribute("/network", "version"), delay == 0 ? 2 : 1);
            EXPECT_EQ(InputFile(path).has_attribute("/network", "reset_delay"), delay == 0);
            for (GridShape reader : all_grids()) {
                SCOPED_TRACE(text(writer) + " -> " + text(reader));
                const ProcessGrid other(MPI_COMM_WORLD, reader);
                expect_equal(read_network(path, reader.neuron_shards, other.neuron_shard()), example(other));
            }
            MPI_Barrier(MPI_COMM_WORLD);
        }
    }
}

// The content of a gradient file: the same names and shapes as /network, any finite values.
TEST(NetworkFile, ParametersOfAnotherGroup) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    const ParameterLayout layout({7, 2, 3}, grid.shape().neuron_shards, grid.neuron_shard());
    std::vector<float> values = formula_values(3, layout);
    for (float& v : values) v = -5.0f * v;
    OutputFile file(grid, folder / "g.h5");
    write_parameters(file, grid, "/gradient/deep", layout, values);
    file.finish();
    EXPECT_EQ(read_parameters(InputFile(folder / "g.h5"), "/gradient/deep", layout), values);
    const ParameterLayout larger({8, 2, 3}, 1, 0);
    expect_contains(
        error_of(Exit::bad_file, [&] { read_parameters(InputFile(folder / "g.h5"), "/gradient/deep", larger); }),
        "/gradient/deep/w_in has shape [7, 2] but must be");
}

TEST(Choices, NamesAreReadBack) {
    const auto read_back = [](const auto& table) {
        for (const auto& [value, name] : table) {
            EXPECT_EQ(name_of(value), name);
            EXPECT_EQ(choice_from<std::decay_t<decltype(value)>>(name, ""), value);
        }
    };
    read_back(choices<Reset>);
    read_back(choices<Surrogate>);
    read_back(choices<Readout>);
    read_back(choices<JacobianReset>);
    const std::string text =
        error_of(Exit::bad_file, [] { choice_from<Surrogate>("fast_sigmoit", "a.h5: attribute surrogate"); });
    expect_contains(text, "a.h5: attribute surrogate: 'fast_sigmoit' is not known");
    expect_contains(text, "choose one of fast_sigmoid, arctan, sigmoid, gaussian, triangle, exponential");
}

}  // namespace
}  // namespace spikefloss::test
