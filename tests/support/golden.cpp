// Reads the groups /network, /sequences and /expect; HDF5 converts every number to double.
#include "support/golden.hpp"

#include <hdf5.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

namespace spikefloss {

namespace {

using reference::Index;

// An HDF5 identifier and the function that closes it.
class Handle {
public:
    Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
        if (id_ < 0) throw std::runtime_error("golden: cannot open " + what);
    }
    ~Handle() { close_(id_); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    operator hid_t() const { return id_; }

private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

class File {
public:
    explicit File(const std::string& path)
        : path_(path), file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, path) {}

    bool has(const std::string& group, const std::string& name) const {
        return H5Lexists(file_, group.c_str(), H5P_DEFAULT) > 0 &&
               H5Lexists(file_, (group + "/" + name).c_str(), H5P_DEFAULT) > 0;
    }

    bool has_attribute(const char* group, const char* name) const {
        return H5Aexists_by_name(file_, group, name, H5P_DEFAULT) > 0;
    }

    // The dataset's values converted to double, and its shape.
    std::vector<double> read(const std::string& name, std::vector<Index>* shape = nullptr) const {
        const std::string what = path_ + ":" + name;
        const Handle set(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose, what);
        const Handle space(H5Dget_space(set), H5Sclose, what);
        if (shape) {
            std::vector<hsize_t> dims(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
            H5Sget_simple_extent_dims(space, dims.data(), nullptr);
            shape->assign(dims.begin(), dims.end());
        }
        std::vector<double> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
        if (H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
            throw std::runtime_error("golden: cannot read " + what);
        return values;
    }

    // The same, of a dataset that must have the given shape.
    std::vector<double> read(const std::string& name, const std::vector<Index>& expected) const {
        std::vector<Index> shape;
        auto values = read(name, &shape);
        if (shape != expected) throw std::runtime_error("golden: unexpected shape of " + path_ + ":" + name);
        return values;
    }

    double number(const std::string& group, const char* name) const {
        const std::string what = path_ + ":" + group + "@" + name;
        const Handle attribute(H5Aopen_by_name(file_, group.c_str(), name, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, what);
        double value = 0.0;
        if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0) throw std::runtime_error("golden: cannot read " + what);
        return value;
    }

    // A string attribute of fixed or of variable length.
    std::string text(const std::string& group, const char* name) const {
        const std::string what = path_ + ":" + group + "@" + name;
        const Handle attribute(H5Aopen_by_name(file_, group.c_str(), name, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, what);
        const Handle type(H5Aget_type(attribute), H5Tclose, what);
        if (H5Tget_class(type) != H5T_STRING) throw std::runtime_error("golden: not a string: " + what);
        if (H5Tis_variable_str(type) > 0) {
            char* value = nullptr;
            if (H5Aread(attribute, type, &value) < 0) throw std::runtime_error("golden: cannot read " + what);
            const std::string result = value;
            H5free_memory(value);
            return result;
        }
        std::string result(H5Tget_size(type), '\0');
        if (H5Aread(attribute, type, result.data()) < 0) throw std::runtime_error("golden: cannot read " + what);
        return result.c_str();
    }

private:
    std::string path_;
    Handle file_;
};

// The element of `choices` with this name.
template <class Choices>
auto choice(const Choices& choices, const std::string& name) {
    for (auto value : choices)
        if (name == reference::name_of(value)) return value;
    throw std::runtime_error("golden: unknown name " + name);
}

reference::Network read_network(const File& file) {
    reference::Network net;
    std::vector<Index> in, out;
    net.w_in = file.read("/network/w_in", &in);
    net.w_out = file.read("/network/w_out", &out);
    if (in.size() != 2 || out.size() != 2) throw std::runtime_error("golden: w_in and w_out must be matrices");
    const Index N = in[0], O = out[0];
    net.neurons = N;
    net.inputs = in[1];
    net.outputs = O;
    net.w_rec = file.read("/network/w_rec", {N, N});
    net.bias = file.read("/network/bias", {N});
    net.bias_out = file.read("/network/bias_out", {O});
    net.alpha = file.read("/network/alpha", {N});
    net.beta = file.read("/network/beta", {N});
    net.kappa = file.read("/network/kappa", {O});
    if (file.has("/network", "initial_current")) net.initial_current = file.read("/network/initial_current", {N});
    if (file.has("/network", "initial_membrane")) net.initial_membrane = file.read("/network/initial_membrane", {N});
    net.threshold = file.number("/network", "threshold");
    net.sharpness = file.number("/network", "sharpness");
    net.reset = choice(reference::all_resets, file.text("/network", "reset"));
    if (file.has_attribute("/network", "reset_delay"))
        net.reset_delay = static_cast<int>(file.number("/network", "reset_delay"));
    net.surrogate = choice(reference::all_surrogates, file.text("/network", "surrogate"));
    net.readout = choice(reference::all_readouts, file.text("/network", "readout"));
    reference::check_shapes(net);
    return net;
}

reference::Sequences read_sequences(const File& file, const reference::Network& net) {
    reference::Sequences seq;
    std::vector<Index> x, mask, q0;
    seq.x = file.read("/sequences/x", &x);
    if (x.size() != 3 || x[2] != net.inputs) throw std::runtime_error("golden: x is not [T, B, M]");
    seq.steps = x[0];
    seq.batch = x[1];
    const std::vector<double> read = file.read("/sequences/mask", &mask);  // [T] or [T, B]
    for (double m : read) seq.mask.insert(seq.mask.end(), mask.size() == 1 ? seq.batch : 1, m);
    if (static_cast<Index>(seq.mask.size()) != seq.steps * seq.batch) throw std::runtime_error("golden: shape of mask");
    if (file.has("/sequences", "target"))
        seq.target = file.read("/sequences/target", {seq.steps, seq.batch, net.outputs});
    if (file.has("/sequences", "label")) seq.loss = reference::LossKind::cross_entropy_mean;
    if (file.has("/sequences", "label"))
        for (double label : file.read("/sequences/label", {seq.batch})) seq.label.push_back(static_cast<int>(label));
    if (file.has("/sequences", "q0")) {
        seq.q0 = file.read("/sequences/q0", &q0);
        if (q0.size() != 3 || q0[0] != seq.batch || q0[1] != net.state_size())
            throw std::runtime_error("golden: q0 is not [B, D, k]");
        seq.exponents = q0[2];
    }
    return seq;
}

reference::Parameters read_gradient(const File& file, const std::string& group) {
    reference::Parameters gradient;
    for (const auto& [name, values] : reference::all_parameters)
        if (file.has(group, name)) gradient.*values = file.read(group + "/" + name);
    return gradient;
}

GoldenExpectation read_expectation(const File& file) {
    GoldenExpectation expect;
    const std::string kind = file.text("/expect", "loss_kind"), reset = file.text("/expect", "jacobian_reset");
    if ((kind != "bce" && kind != "ce") || (reset != "detached" && reset != "ignored"))
        throw std::runtime_error("golden: unknown loss_kind or jacobian_reset");
    expect.loss_kind =
        kind == "bce" ? reference::LossKind::binary_cross_entropy : reference::LossKind::cross_entropy_mean;
    expect.spectrum.jacobian_reset =
        reset == "detached" ? reference::JacobianReset::detached : reference::JacobianReset::ignored;
    expect.spectrum.warmup = static_cast<Index>(file.number("/expect", "warmup"));
    expect.spectrum.qr_interval = static_cast<Index>(file.number("/expect", "qr_interval"));
    expect.exponents = static_cast<Index>(file.number("/expect", "exponents"));
    expect.task_loss = file.number("/expect", "task_loss");
    expect.floss_loss = file.number("/expect", "floss_loss");
    expect.current = file.read("/expect/current");
    expect.membrane = file.read("/expect/membrane");
    expect.spikes = file.read("/expect/spikes");
    expect.readout = file.read("/expect/readout");
    expect.state_gradient_norm = file.read("/expect/state_gradient_norm");
    expect.lambda = file.read("/expect/lambda");
    expect.lambda_per_sequence = file.read("/expect/lambda_per_sequence");
    expect.log_r = file.read("/expect/log_r");
    expect.task_gradient = read_gradient(file, "/expect/task_gradient");
    expect.floss_gradient = read_gradient(file, "/expect/floss_gradient");
    expect.floss_gradient_direct = read_gradient(file, "/expect/floss_gradient_direct");
    return expect;
}

}  // namespace

GoldenCase load_golden(const std::string& path) {
    const File file(path);
    GoldenCase golden;
    golden.path = path;
    golden.name = std::filesystem::path(path).stem().string();
    golden.network = read_network(file);
    golden.sequences = read_sequences(file, golden.network);
    if (file.has("/", "expect")) golden.expect = read_expectation(file);
    return golden;
}

std::vector<std::string> golden_names(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (entry.path().extension() == ".h5") names.push_back(entry.path().stem().string());
    if (names.empty()) throw std::runtime_error("golden: no case in " + folder);
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace spikefloss
