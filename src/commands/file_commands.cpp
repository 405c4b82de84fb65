// `spectrum` and `gradients`: measurements of any network given as a file, on sequences given as a file.
#include "api/held.hpp"
#include "commands/file_inputs.hpp"
#include "lyapunov/flossing_pass.hpp"
#include "train/finite.hpp"
#include "train/gradient.hpp"
#include "train/loss.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace spikefloss {
namespace {

// Checked before anything is allocated or drawn.
TangentOptions tangent_options(const FileCommand& command, const Inputs& in) {
    TangentOptions options;
    const Index columns = in.sequences.q0_columns, D = in.network.state_size();
    options.exponents = command.exponents > 0 ? command.exponents : columns > 0 ? columns : std::min<Index>(16, D);
    options.warmup = command.warmup;
    options.qr_interval = command.qr_interval;
    options.reset = command.jacobian_reset;
    return TangentPass::checked(options, D, in.sequences.batch.steps);
}

// q0 of the file if it has k columns, else random bases.
std::vector<float> starting_bases(const FileCommand& command, const Session& session, const Inputs& in, Index k) {
    if (in.sequences.q0_columns == k) return in.sequences.q0;
    if (in.sequences.q0_columns > 0 && session.grid.rank() == 0)
        std::fprintf(stderr, "note: /sequences/q0 has %ld columns, not %ld; starting from random bases (seed %ld)\n",
                     static_cast<long>(in.sequences.q0_columns), static_cast<long>(k), static_cast<long>(command.seed));
    const ParameterLayout& layout = in.network.layout;
    return random_bases(static_cast<std::uint64_t>(command.seed), k, layout.shape().neurons, in.network.state_parts(),
                        layout.neurons(), in.mine);
}

// The attribute format of "/" of the results.
constexpr const char* spectrum_format = "spikefloss-spectrum";
constexpr const char* gradients_format = "spikefloss-gradients";

void write_scalar(OutputFile& file, const ProcessGrid& grid, const std::string& name, double value) {
    std::vector<Block<double>> block;
    if (grid.rank() == 0) block.push_back({{}, {}, &value});
    file.dataset<double>(name, {}, block);
}

void write_vector(OutputFile& file, const ProcessGrid& grid, const std::string& name,
                  const std::vector<double>& values) {
    const auto count = static_cast<Index>(values.size());
    std::vector<Block<double>> block;
    if (grid.rank() == 0) block.push_back({{0}, {count}, values.data()});
    file.dataset<double>(name, {count}, block);
}

// The surrogate that was used, which may not be that of the network file.
void write_surrogate(OutputFile& file, const Inputs& in) {
    const NeuronModel& neuron = in.network.model.neuron;
    file.attribute("/", "surrogate", std::string(name_of(neuron.surrogate)));
    file.attribute("/", "sharpness", static_cast<double>(neuron.sharpness));
}

// Writes lambda, lambda_per_sequence, log_r and the quantities that follow from them.
void write_spectrum(OutputFile& file, const ProcessGrid& grid, const Inputs& in, const TangentOptions& options,
                    const api::Spectrum& spectrum) {
    const Index k = options.exponents, b = in.mine.size();
    const bool writes = grid.neuron_shard() == 0;
    write_vector(file, grid, "/lambda", spectrum.exponents);
    std::vector<Block<double>> rows, logs;
    if (writes) rows.push_back({{in.mine.begin, 0}, {b, k}, spectrum.per_sequence.data()});
    file.dataset<double>("/lambda_per_sequence", {in.sequences.total, k}, rows);
    const auto counted = static_cast<Index>(spectrum.qr_step.size());
    if (writes) logs.push_back({{0, in.mine.begin, 0}, {counted, b, k}, spectrum.log_r.data()});
    file.dataset<double>("/log_r", {counted, in.sequences.total, k}, logs);
    std::vector<Block<std::int64_t>> qr_steps;
    if (grid.rank() == 0) qr_steps.push_back({{0}, {counted}, spectrum.qr_step.data()});
    file.dataset<std::int64_t>("/qr_step", {counted}, qr_steps);
    file.attribute("/", "kaplan_yorke_dimension", spectrum.kaplan_yorke);
    file.attribute("/", "kaplan_yorke_is_lower_bound", static_cast<std::int64_t>(spectrum.kaplan_yorke_is_lower_bound));
    file.attribute("/", "entropy_rate", spectrum.entropy_rate);
    file.attribute("/", "condition_number", std::pow(10.0, spectrum.log10_condition_number));
    file.attribute("/", "log10_condition_number", spectrum.log10_condition_number);
    file.attribute("/", "exponents", static_cast<std::int64_t>(k));
    file.attribute("/", "warmup", static_cast<std::int64_t>(options.warmup));
    file.attribute("/", "qr_interval", static_cast<std::int64_t>(options.qr_interval));
    file.attribute("/", "jacobian_reset", std::string(name_of(options.reset)));
}

void print_spectrum(const Inputs& in, const api::Spectrum& spectrum) {
    const std::vector<double>& lambda = spectrum.exponents;
    const auto k = static_cast<Index>(lambda.size());
    const Index B = in.sequences.total, T = in.sequences.batch.steps;
    fmt::print("{} neurons, state dimension {}, {} sequence{} of {} steps, {:.4f} spikes per neuron and step\n\n",
               in.network.layout.shape().neurons, in.network.state_size(), B, B == 1 ? "" : "s", T, spectrum.rate);
    fmt::print("   j   lambda_j (1/step)   time constant (steps)\n");
    // The first 8 and the last 2 show the shape.
    for (Index j = 0; j < k; ++j) {
        if (k > 12 && j == 8) fmt::print("   ...\n");
        if (k > 12 && j >= 8 && j < k - 2) continue;
        const double value = lambda[static_cast<std::size_t>(j)];
        fmt::print("{:4}   {:+17.6f}   {:>21}\n", j + 1, value,
                   std::isinf(value) ? "lost"
                   : value < 0.0     ? fmt::format("{:.1f}", -1.0 / value)
                                     : std::string("growing"));
    }
    fmt::print("\nKaplan-Yorke dimension   {}{:.3f}\n", spectrum.kaplan_yorke_is_lower_bound ? "at least " : "",
               spectrum.kaplan_yorke);
    fmt::print("entropy rate             {:.6f} per step\n", spectrum.entropy_rate);
    fmt::print("condition number         10^{:.2f} over {} steps, directions 1 to {}\n",
               spectrum.log10_condition_number, T, k);
}

}  // namespace

int spectrum(const ProcessGrid& everyone, const FileCommand& command) {
    require_output(everyone, command, spectrum_format, "a spectrum as spikefloss writes it");
    const Session session(everyone, command.parallel, command.sums);
    const ProcessGrid& grid = session.grid;
    const Inputs in = read_inputs(command, session);
    TangentOptions options;
    grid.agree([&] { options = tangent_options(command, in); });
    const HostArray<float> x(*session.backend, in.sequences.batch.x);
    const api::Spectrum result = api::spectrum(*session.backend, grid, in.network,
                                               {x.data(), in.sequences.batch.steps, in.mine, in.sequences.total},
                                               options, starting_bases(command, session, in, options.exponents));
    OutputFile file(grid, command.output);
    file.attribute("/", "format", spectrum_format);
    write_surrogate(file, in);
    write_spectrum(file, grid, in, options, result);
    file.finish();
    if (grid.rank() != 0) return 0;
    print_spectrum(in, result);
    if (const std::string lost = lost_text(result.exponents); !lost.empty())
        std::fprintf(stderr, "warning: %s\n", lost.c_str());
    return 0;
}

int gradients(const ProcessGrid& everyone, const FileCommand& command) {
    require_output(everyone, command, gradients_format, "a file of gradients as spikefloss writes it");
    const Session session(everyone, command.parallel, command.sums);
    const ProcessGrid& grid = session.grid;
    Backend& backend = *session.backend;
    Inputs in = read_inputs(command, session);
    if (command.penalty == "task") append_steps(in, command, grid);
    const Batch& batch = in.sequences.batch;
    const NetworkShape shape = in.network.layout.shape();
    const Index T = batch.steps, b = in.mine.size(), B = in.sequences.total;
    const HostArray<float> x(backend, batch.x);
    Gradient gradient(backend, grid, in.network.layout);

    double loss = 0.0;
    std::vector<double> state_norm;
    if (command.penalty == "task") {
        grid.agree([&] {
            require(in.sequences.has_targets, Exit::bad_file,
                    fmt::format("{} has neither /sequences/target nor /sequences/label", command.input),
                    "add target [T, B, O] of 0 and 1 for binary cross-entropy, or label [B] for classification; or use "
                    "--penalty floss, which needs neither");
        });
        StatePass state(backend, grid, in.network, T, b, {.time_constants = true});
        LossPass task(backend, grid, T, b, 0, shape.outputs, batch.loss);
        task.load(batch);
        state.forward(in.network, x.data());
        require_finite_states(*session.backend, grid, state, in.mine, in.network.layout.neurons());
        const Outcome outcome = task.evaluate(state.tape().readout.data());
        loss = outcome.loss;
        state.backward(in.network, x.data(), {.dy = task.dy(), .state_norms = true}, gradient.start());
        state_norm = state.state_gradient_norm();
    } else {
        FlossingOptions options;
        const Penalty penalty{.target = command.target};
        grid.agree([&] {
            options.tangent = tangent_options(command, in);
            FlossingPass::check(penalty, options.tangent.exponents);
        });
        options.through_state = !command.direct;
        options.time_constants = true;
        std::unique_ptr<FlossingPass> pass;
        grid.agree([&] {
            pass = std::make_unique<FlossingPass>(backend, grid, in.network, options, T, B,
                                                  starting_bases(command, session, in, options.tangent.exponents));
        });
        loss = pass->run(in.network, x.data(), penalty, gradient.start(), {.state_norms = true}).loss;
        if (!command.direct) state_norm = pass->state().state_gradient_norm();
    }
    const GradientNorms norms = gradient.reduce({});
    require_finite_gradients(grid, loss, norms);

    OutputFile file(grid, command.output);
    file.attribute("/", "format", gradients_format);
    write_surrogate(file, in);
    file.attribute("/", "penalty", command.penalty);
    write_scalar(file, grid, "/loss", loss);
    write_parameters(file, grid, "", in.network.layout, gradient.to_host());
    if (!state_norm.empty()) write_vector(file, grid, "/state_gradient_norm", state_norm);
    file.finish();
    if (grid.rank() == 0) {
        fmt::print("{} loss {:.8g}\n\n   parameter          |gradient|\n", command.penalty, loss);
        for (Parameter p : norms.present)
            fmt::print("   {:17}  {:.6g}\n", name_of(p), norms.parameter[static_cast<std::size_t>(p)]);
        if (!state_norm.empty())
            fmt::print("\n|dL/d(state)| at the first step {:.4g}, at the last {:.4g}\n", state_norm.front(),
                       state_norm.back());
    }
    return 0;
}

}  // namespace spikefloss
