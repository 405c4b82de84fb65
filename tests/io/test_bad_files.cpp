// Files of users: every fault has a message with the error and its place; every form in which h5py stores correct data
// is accepted.
#include "io/files.hpp"

#include <cmath>
#include <fstream>

namespace spikefloss::test {
namespace {

constexpr hsize_t N = 4, M = 3, O = 2, T = 5, B = 6, K = 2;

void write_good(Editor& file) {
    file.group("/network");
    file.string("/network", "format", "spikefloss-network");
    file.number("/network", "version", 1, H5T_STD_I64LE);
    file.number("/network", "threshold", 1.0);
    file.number("/network", "sharpness", 5.0);
    file.string("/network", "reset", "zero");
    file.string("/network", "surrogate", "fast_sigmoid");
    file.string("/network", "readout", "membrane");
    file.fill("/network/w_in", {N, M}, 0.25);
    file.fill("/network/w_rec", {N, N}, 0.5);
    file.fill("/network/w_out", {O, N}, 0.75);
    file.fill("/network/bias", {N}, 0.0);
    file.fill("/network/bias_out", {O}, 0.0);
    file.fill("/network/alpha", {N}, 0.5);
    file.fill("/network/beta", {N}, 0.875);
    file.fill("/network/kappa", {O}, 0.0);
    file.group("/sequences");
    file.fill("/sequences/x", {T, B, M}, 1.0);
    file.fill("/sequences/mask", {T}, 1.0);
    file.fill("/sequences/target", {T, B, O}, 1.0);
    file.fill("/sequences/q0", {B, 2 * N, K}, 0.5, H5T_IEEE_F64LE);
}

// Every rank makes its own file. Nothing here is collective.
class BadFiles : public testing::Test {
protected:
    BadFiles() : path(folder / fmt::format("rank{}.h5", world_rank())) { rewrite(); }

    void rewrite() {
        Editor file(path, true);
        write_good(file);
    }
    // The error message for the good file with one change.
    std::string network_fault(const std::function<void(Editor&)>& change, Index shards = 1,
                              Exit code = Exit::bad_file) {
        edit(change);
        const std::string message = error_of(code, [&] { read_network(path, shards, 0); });
        expect_contains(message, path);
        return message;
    }
    std::string sequences_fault(const std::function<void(Editor&)>& change, bool has_current = true,
                                NetworkShape shape = {N, M, O}) {
        edit(change);
        const std::string message =
            error_of(Exit::bad_file, [&] { read_sequences(path, shape, 1 + has_current, self); });
        expect_contains(message, path);
        return message;
    }
    HostNetwork network(const std::function<void(Editor&)>& change) {
        edit(change);
        return read_network(path, 1, 0);
    }
    SequencesFile sequences(const std::function<void(Editor&)>& change) {
        edit(change);
        return read_sequences(path, {N, M, O}, 2, self);
    }
    void edit(const std::function<void(Editor&)>& change) {
        rewrite();
        Editor file(path);
        change(file);
    }
    float value(const HostNetwork& net, Parameter p, Index i) {
        return net.values[static_cast<std::size_t>(net.layout.extent(p).offset + i)];
    }

    const Folder folder;
    const std::string path;
    const ProcessGrid self{MPI_COMM_SELF, {1, 1}};
};

TEST_F(BadFiles, TheGoodFileIsRead) {
    const HostNetwork net = network([](Editor&) {});
    EXPECT_EQ(value(net, Parameter::w_rec, 15), 0.5f);
    EXPECT_EQ(value(net, Parameter::initial_membrane, 3), 0.0f);
    const SequencesFile seq = sequences([](Editor&) {});
    EXPECT_EQ(seq.total, 6);
    EXPECT_EQ(seq.q0_columns, 2);
    EXPECT_TRUE(seq.has_targets);
}

TEST_F(BadFiles, NoHdf5File) {
    const auto message = [&](const std::string& name) {
        return error_of(Exit::bad_file, [&] { read_network(name, 1, 0); });
    };
    expect_contains(message(folder / "nothing.h5"), "nothing.h5: there is no such file");
    expect_contains(message(folder.path()), "is a folder");
    std::ofstream(path) << "step,loss\n1,0.5\n";
    expect_contains(message(path), "not an HDF5 file");
    std::ofstream(path, std::ios::trunc).close();
    expect_contains(message(path), "not an HDF5 file");
}

TEST_F(BadFiles, Truncated) {
    const auto size = std::filesystem::file_size(path);
    for (auto keep : {size - 1, size / 2, size / 10, std::uintmax_t(600)}) {
        rewrite();
        std::filesystem::resize_file(path, keep);
        const std::string message = error_of(Exit::bad_file, [&] { read_network(path, 1, 0); });
        expect_contains(message, "truncated");
    }
}

TEST_F(BadFiles, MissingThings) {
    expect_contains(network_fault([](Editor& f) { f.remove("/network"); }), "group /network is missing");
    for (const char* name : {"w_in", "w_rec", "bias", "w_out", "bias_out", "alpha", "beta", "kappa"})
        expect_contains(network_fault([&](Editor& f) { f.remove(std::string("/network/") + name); }),
                        fmt::format("dataset /network/{} is missing", name));
    for (const char* name : {"format", "version", "reset", "surrogate", "sharpness", "readout"})
        expect_contains(network_fault([&](Editor& f) { f.remove_attribute("/network", name); }),
                        fmt::format("attribute {} of /network is missing", name));
    expect_contains(network_fault([](Editor& f) { f.remove_attribute("/network", "threshold"); }),
                    "/network has neither an attribute nor a dataset threshold");
    expect_contains(sequences_fault([](Editor& f) { f.remove("/sequences"); }), "dataset /sequences/x is missing");
    expect_contains(sequences_fault([](Editor& f) { f.remove("/sequences/x"); }), "dataset /sequences/x is missing");
}

TEST_F(BadFiles, FormatAndVersion) {
    expect_contains(network_fault([](Editor& f) { f.string("/network", "format", "other"); }),
                    "format of /network is 'other' but must be 'spikefloss-network'");
    expect_contains(network_fault([](Editor& f) { f.number("/network", "version", 3, H5T_STD_I64LE); }),
                    "version 3 of its format; this program reads versions 1 and 2");
    expect_contains(network_fault([](Editor& f) { f.number("/network", "version", 0, H5T_STD_I64LE); }),
                    "write the file again");
    for (const int delay : {-1, 2})
        expect_contains(network_fault([&](Editor& f) { f.number("/network", "reset_delay", delay, H5T_STD_I64LE); }),
                        fmt::format("attribute reset_delay of /network is {} but must be 0 or 1", delay));
    expect_contains(network_fault([](Editor& f) { f.number("/network", "reset_delay", 0.5); }),
                    "must be a whole number");
    expect_contains(network_fault([](Editor& f) { f.number("/network", "version", 1.5); }), "must be a whole number");
    expect_contains(network_fault([](Editor& f) { f.string("/network", "version", "1"); }), "must be a number");
}

TEST_F(BadFiles, Choices) {
    const std::string reset = network_fault([](Editor& f) { f.string("/network", "reset", "soft"); });
    expect_contains(reset, "attribute reset of /network: 'soft' is not known");
    expect_contains(reset, "zero, subtract, none");
    expect_contains(network_fault([](Editor& f) { f.string("/network", "surrogate", "Gauss"); }),
                    "fast_sigmoid, arctan, sigmoid, gaussian, triangle, exponential");
    expect_contains(network_fault([](Editor& f) { f.string("/network", "readout", "u"); }), "membrane, spikes");
    expect_contains(network_fault([](Editor& f) { f.number("/network", "reset", 1); }), "must be text");
    for (const std::string& text : {std::string("\x1b[2Jzero"), std::string("z\xe9ro"), std::string(65, 'z')})
        for (const char* name : {"format", "reset", "surrogate", "readout", "layout"}) {
            const std::string message = network_fault([&](Editor& f) { f.string("/network", name, text); });
            expect_contains(message, fmt::format("attribute {} of /network is not a word but", name));
            EXPECT_EQ(message.find(text), std::string::npos);
        }
    expect_contains(network_fault([](Editor& f) { f.number("/network", "sharpness", 0.0); }),
                    "sharpness of /network is 0 but must be above 0");
    expect_contains(network_fault([](Editor& f) { f.number("/network", "threshold", NAN); }),
                    "threshold of /network is not finite");
}

TEST_F(BadFiles, NumbersBeyondFloat32) {
    for (const char* name : {"threshold", "sharpness"})
        for (const double value : {1e300, 1e-320, 1e-40}) {
            const std::string message = network_fault([&](Editor& f) { f.number("/network", name, value); });
            expect_contains(message,
                            fmt::format("attribute {} of /network is {}, beyond the range of float32", name, value));
            expect_contains(message, "what to do");
        }
    EXPECT_EQ(network([](Editor& f) { f.number("/network", "threshold", 0.0); }).model.neuron.threshold, 0.0f);
    EXPECT_EQ(network([](Editor& f) { f.number("/network", "threshold", -1e30); }).model.neuron.threshold, -1e30f);
}

// A small file can claim a large size: chunks that were never written take no space.
TEST_F(BadFiles, SizesThatNoMachineHas) {
    const auto claim = [](Editor& f, const std::string& name, std::vector<hsize_t> dims) {
        f.chunked(name, dims, false);
    };
    const std::string wide = network_fault([&](Editor& f) {
        for (const char* name : {"bias", "alpha", "beta"}) claim(f, fmt::format("/network/{}", name), {1u << 30});
        claim(f, "/network/w_in", {1u << 30, M});
        claim(f, "/network/w_out", {O, 1u << 30});
        claim(f, "/network/w_rec", {1u << 30, 1u << 30});
    });
    expect_contains(wide, "/network/w_rec has shape [1073741824, 1073741824]");
    expect_contains(wide, "4.61e+09 GB");
    expect_contains(wide, "what to do");
    expect_contains(network_fault([&](Editor& f) {
                        claim(f, "/network/w_in", {hsize_t(1) << 40, M});
                    }),
                    "/network/w_in has shape [1099511627776, 3]; a dimension may be 2147483647 at most");
    const std::string long_x = sequences_fault([&](Editor& f) { claim(f, "/sequences/x", {1000000, 1000000, M}); });
    expect_contains(long_x, "/sequences/x has shape [1000000, 1000000, 3]");
    expect_contains(long_x, "1.2e+04 GB");
}

TEST_F(BadFiles, Shapes) {
    expect_contains(network_fault([](Editor& f) {
                        f.fill("/network/w_rec", {N, 2}, 0);
                    }),
                    "/network/w_rec has shape [4, 2] but must be [N, N] = [4, 4] because /network/w_in says N = 4");
    expect_contains(network_fault([](Editor& f) {
                        f.fill("/network/w_out", {O, 5}, 0);
                    }),
                    "/network/w_out has shape [2, 5] but must be [O, N] = [2, 4]");
    expect_contains(network_fault([](Editor& f) {
                        f.fill("/network/bias", {1, N}, 0);
                    }),
                    "/network/bias has shape [1, 4] but must be [N] = [4]");
    expect_contains(network_fault([](Editor& f) { f.fill("/network/kappa", {}, 0); }),
                    "/network/kappa has shape [] but must be [O] = [2] because /network/w_out says O = 2");
    expect_contains(network_fault([](Editor& f) { f.fill("/network/w_in", {N}, 0); }), "must be a matrix [N, M]");
    expect_contains(network_fault([](Editor& f) { f.fill("/network/w_in", {N, 0}, 0); }), "must be a matrix [N, M]");
    expect_contains(network_fault([](Editor& f) { f.fill("/network/initial_current", {3}, 0); }),
                    "/network/initial_current has shape [3] but must be [N] = [4]");
    expect_contains(network_fault([](Editor& f) {
                        f.remove("/network/bias");
                        f.group("/network/bias");
                    }),
                    "/network/bias cannot be opened as a dataset");
}

TEST_F(BadFiles, Values) {
    expect_contains(network_fault([](Editor& f) {
                        f.set_element("/network/w_rec", {2, 3}, NAN);
                    }),
                    "/network/w_rec[2, 3] is not a number (NaN)");
    expect_contains(network_fault([](Editor& f) { f.set_element("/network/bias", {1}, INFINITY); }),
                    "/network/bias[1] is infinite");
    expect_contains(network_fault([](Editor& f) {
                        f.fill("/network/w_in", {N, M}, 1e300, H5T_IEEE_F64LE);
                    }),
                    "/network/w_in[0, 0] is infinite, or too large for this precision");
    for (const char* name : {"alpha", "beta", "kappa"}) {
        const std::string full = std::string("/network/") + name;
        expect_contains(network_fault([&](Editor& f) { f.set_element(full, {1}, 1.0); }),
                        full + "[1] is 1 but must be at least 0 and below 1");
        expect_contains(network_fault([&](Editor& f) { f.set_element(full, {0}, -0.125); }), full + "[0] is -0.125");
    }
}

TEST_F(BadFiles, TooManyShards) {
    EXPECT_EQ(read_network(path, 4, 3).layout.neurons().size(), 1);
    expect_contains(network_fault([](Editor&) {}, 5, Exit::usage), "4 neurons, too few for 5 neuron shards");
}

TEST_F(BadFiles, Sequences) {
    expect_contains(sequences_fault([](Editor& f) {
                        f.fill("/sequences/x", {T, M}, 0);
                    }),
                    "/sequences/x has shape [5, 3] but must be [T, B, M]");
    expect_contains(sequences_fault([](Editor& f) { f.fill("/sequences/x", {0, B, M}, 0); }), "at least one step");
    expect_contains(sequences_fault([](Editor& f) {
                        f.fill("/sequences/x", {T, B, 7}, 0);
                    }),
                    "M = 7 inputs, but the network has M = 3");
    expect_contains(sequences_fault([](Editor& f) {
                        f.set_element("/sequences/x", {4, 5, 2}, NAN);
                    }),
                    "/sequences/x[4, 5, 2] is not a number (NaN)");
    expect_contains(sequences_fault([](Editor& f) { f.fill("/sequences/mask", {4}, 1); }),
                    "/sequences/mask has shape [4] but must be [T] = [5] because /sequences/x says T = 5");
    expect_contains(sequences_fault([](Editor& f) { f.set_element("/sequences/mask", {2}, 0.5); }),
                    "/sequences/mask[2] is 0.5 but must be 0 or 1");
    expect_contains(sequences_fault([](Editor& f) { f.fill("/sequences/mask", {T}, 0); }), "0 everywhere");
    expect_contains(sequences_fault([](Editor& f) {
                        f.fill("/sequences/mask", {T, B}, 1);
                        f.set_element("/sequences/mask", {2, 4}, 2);
                    }),
                    "/sequences/mask[2, 4] is 2 but must be 0 or 1");
    expect_contains(sequences_fault([](Editor& f) {
                        f.fill("/sequences/mask", {T, B}, 1);
                        for (hsize_t t = 0; t < T; ++t) f.set_element("/sequences/mask", {t, 3}, 0);
                    }),
                    "/sequences/mask is 0 throughout sequence 3");
    expect_contains(sequences_fault([](Editor& f) {
                        f.fill("/sequences/target", {T, B, 1}, 0);
                    }),
                    "/sequences/target has shape [5, 6, 1] but must be [T, B, O] = [5, 6, 2]");
    expect_contains(sequences_fault([](Editor& f) {
                        f.set_element("/sequences/target", {3, 4, 1}, -1);
                    }),
                    "/sequences/target[3, 4, 1] is -1 but must be between 0 and 1");
    expect_contains(sequences_fault([](Editor& f) { f.fill("/sequences/label", {B}, 0, H5T_STD_I64LE); }),
                    "both target and label");
}

void use_labels(Editor& file, std::vector<double> labels, hid_t type = H5T_STD_I64LE) {
    file.remove("/sequences/target");
    const hsize_t count = labels.size();
    file.dataset("/sequences/label", {count}, labels, type);
}

TEST_F(BadFiles, Labels) {
    expect_contains(sequences_fault([](Editor& f) {
                        use_labels(f, {0, 1, 2, 0, 1, 0});
                    }),
                    "/sequences/label[2] is 2 but must be 0 to 1");
    expect_contains(sequences_fault([](Editor& f) {
                        use_labels(f, {0, 1, 0, 0, 1, -1});
                    }),
                    "/sequences/label[5] is -1");
    expect_contains(sequences_fault([](Editor& f) { use_labels(f, {0, 1}); }), "has shape [2] but must be [B] = [6]");
    expect_contains(sequences_fault([](Editor& f) {
                        use_labels(f, {0, 1, 0.5, 0, 1, 1}, H5T_IEEE_F64LE);
                    }),
                    "/sequences/label[2] is 0.5 but must be a whole number");
    // 2^32 must not wrap to class 0
    expect_contains(sequences_fault([](Editor& f) {
                        use_labels(f, {0, 4294967296.0, 0, 0, 1, 1});
                    }),
                    "/sequences/label[1] is 4294967296");
}

TEST_F(BadFiles, StartingBases) {
    const std::string with_current = sequences_fault([](Editor& f) { f.fill("/sequences/q0", {B, N, K}, 1); });
    expect_contains(with_current, "/sequences/q0 has shape [6, 4, 2] but must be [B, D, k] = [6, 8, 1 to 8]");
    expect_contains(with_current, "D = 2 N");
    const std::string without = sequences_fault([](Editor&) {}, false);
    expect_contains(without, "has shape [6, 8, 2] but must be [B, D, k] = [6, 4, 1 to 4]");
    expect_contains(without, "every alpha of the network is 0");
    expect_contains(sequences_fault([](Editor& f) { f.fill("/sequences/q0", {B, 8, 9}, 1); }), "1 to 8");
    expect_contains(sequences_fault([](Editor& f) {
                        f.set_element("/sequences/q0", {5, 6, 1}, NAN);
                    }),
                    "/sequences/q0[5, 6, 1] is not a number (NaN)");
}

TEST_F(BadFiles, WrongTypeOfDataset) {
    expect_contains(network_fault([](Editor& f) {
                        f.remove("/network/bias");
                        f.text_dataset("/network/bias", N);
                    }),
                    "/network/bias holds text but must hold numbers");
}

TEST_F(BadFiles, EveryTypeNumpyWritesIsTaken) {
    for (hid_t type : {H5T_IEEE_F64LE, H5T_IEEE_F32BE, H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I32LE, H5T_STD_I64LE}) {
        const HostNetwork net = network([&](Editor& f) { f.fill("/network/w_rec", {N, N}, 1, type); });
        EXPECT_EQ(value(net, Parameter::w_rec, 7), 1.0f);
        const SequencesFile seq = sequences([&](Editor& f) { f.fill("/sequences/x", {T, B, M}, 1, type); });
        EXPECT_EQ(seq.batch.x.back(), 1.0f);
        const SequencesFile labels = sequences([&](Editor& f) { use_labels(f, {0, 1, 0, 0, 1, 1}, type); });
        EXPECT_EQ(labels.batch.label, (std::vector<std::int32_t>{0, 1, 0, 0, 1, 1}));
        EXPECT_EQ(labels.batch.loss, LossKind::cross_entropy_mean);
    }
    const SequencesFile seq = sequences([&](Editor& f) { f.bools("/sequences/mask", {T}, {0, 0, 1, 1, 1}); });
    EXPECT_EQ(seq.batch.mask.size(), static_cast<std::size_t>(T * B));
    for (hsize_t at = 0; at < T * B; ++at) EXPECT_EQ(seq.batch.mask[at], at / B >= 2);
    // Sequences of their own lengths.
    std::vector<double> own(static_cast<std::size_t>(T * B));
    for (hsize_t at = 0; at < T * B; ++at) own[at] = at / B <= at % B;
    const SequencesFile lengths = sequences([&](Editor& f) { f.dataset("/sequences/mask", {T, B}, own); });
    EXPECT_EQ(lengths.batch.mask, std::vector<float>(own.begin(), own.end()));
    const SequencesFile labels = sequences([&](Editor& f) {
        f.remove("/sequences/target");
        f.bools("/sequences/label", {B}, {1, 0, 1, 1, 0, 0});
    });
    EXPECT_EQ(labels.batch.label, (std::vector<std::int32_t>{1, 0, 1, 1, 0, 0}));
}

TEST_F(BadFiles, EveryFormOfAttributeIsTaken) {
    const HostNetwork net = network([](Editor& f) {
        f.string("/network", "format", "spikefloss-network", false);
        f.string("/network", "reset", "subtract", false);
        f.number("/network", "version", 1, H5T_STD_I32LE);
        f.number("/network", "threshold", 2, H5T_STD_I64LE);
        f.number("/network", "sharpness", 0.5, H5T_IEEE_F32LE);
    });
    EXPECT_EQ(net.model.neuron.reset, Reset::subtract);
    EXPECT_EQ(net.model.neuron.threshold, 2.0f);
    EXPECT_EQ(net.model.neuron.sharpness, 0.5f);
    network([](Editor& f) { f.number("/network", "version", 1.0); });
    EXPECT_EQ(net.model.neuron.reset_delay, 1);
    for (const int version : {1, 2})  // version 1 without the attribute is tested everywhere
        for (const int delay : {0, 1}) {
            const HostNetwork delayed = network([&](Editor& f) {
                f.number("/network", "version", version, H5T_STD_I64LE);
                f.number("/network", "reset_delay", delay, H5T_STD_I8LE);
            });
            EXPECT_EQ(delayed.model.neuron.reset_delay, delay);
        }
    edit([](Editor& f) { f.boolean("/network", "flag", 1); });
    EXPECT_EQ(InputFile(path).integer_attribute("/network", "flag"), 1);
}

TEST_F(BadFiles, MaskAndTargetsAreOptional) {
    const SequencesFile seq = sequences([](Editor& f) {
        for (const char* name : {"mask", "target", "q0"}) f.remove(std::string("/sequences/") + name);
    });
    EXPECT_EQ(seq.batch.mask, std::vector<float>(T * B, 1.0f));
    EXPECT_FALSE(seq.has_targets);
    EXPECT_TRUE(seq.q0.empty());
    EXPECT_EQ(seq.q0_columns, 0);
}

TEST_F(BadFiles, TooFewSequencesForTheGrid) {
    edit([](Editor& f) {
        f.fill("/sequences/x", {T, 1, M}, 1);
        for (const char* name : {"target", "q0"}) f.remove(std::string("/sequences/") + name);
    });
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());  // one neuron shard
    if (grid.ranks() == 1)
        EXPECT_EQ(read_sequences(path, {N, M, O}, 2, grid).total, 1);
    else
        expect_contains(error_of(Exit::usage,
                                 [&] {
                                     read_sequences(path, {N, M, O}, 2, grid);
                                 }),
                        fmt::format("1 sequences, too few for {} batch shards", grid.ranks()));
}

}  // namespace
}  // namespace spikefloss::test
