// The choices of the program. Each is an enum with one table of the names of its values, in the order in which messages
// list them. Configs, files, the command line and messages take the names from here, so every folder may include this.
#pragma once

#include <array>
#include <csignal>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spikefloss {

template <class Choice>
struct Named {
    Choice value;
    std::string_view name;
};

// The table of an enum.
template <class Choice>
inline constexpr bool choices = false;

// The effect of a spike on the membrane (neuron/lif.hpp).
enum class Reset { zero, subtract, none };
template <>
inline constexpr Named<Reset> choices<Reset>[] = {
    {Reset::zero, "zero"}, {Reset::subtract, "subtract"}, {Reset::none, "none"}};

// What the adaptation w of a neuron acts on (neuron/lif.hpp).
enum class Adaptation { none, threshold, current };
template <>
inline constexpr Named<Adaptation> choices<Adaptation>[] = {
    {Adaptation::none, "none"}, {Adaptation::threshold, "threshold"}, {Adaptation::current, "current"}};

// The shape of the surrogate derivative (neuron/surrogate.hpp).
enum class Surrogate { fast_sigmoid, arctan, sigmoid, gaussian, triangle, exponential };
template <>
inline constexpr Named<Surrogate> choices<Surrogate>[] = {
    {Surrogate::fast_sigmoid, "fast_sigmoid"}, {Surrogate::arctan, "arctan"},
    {Surrogate::sigmoid, "sigmoid"},           {Surrogate::gaussian, "gaussian"},
    {Surrogate::triangle, "triangle"},         {Surrogate::exponential, "exponential"}};

// Whether z, the input of the readout, is the membrane or the spike.
enum class Readout { membrane, spikes };
template <>
inline constexpr Named<Readout> choices<Readout>[] = {{Readout::membrane, "membrane"}, {Readout::spikes, "spikes"}};

// Whether the reset factor (1 - s) is in the tangent map: `ignored` leaves it out, as the authors' script does.
enum class JacobianReset { detached, ignored };
template <>
inline constexpr Named<JacobianReset> choices<JacobianReset>[] = {{JacobianReset::detached, "detached"},
                                                                  {JacobianReset::ignored, "ignored"}};

// Initial weights of a projection (network/initialise.hpp).
enum class WeightInit { gaussian, orthogonal, balanced, fluctuation };
template <>
inline constexpr Named<WeightInit> choices<WeightInit>[] = {{WeightInit::gaussian, "gaussian"},
                                                            {WeightInit::orthogonal, "orthogonal"},
                                                            {WeightInit::balanced, "balanced"},
                                                            {WeightInit::fluctuation, "fluctuation"}};

// How the weights of a projection are held. automatic: sparse where few of the possible synapses exist.
enum class Storage { automatic, dense, sparse };
template <>
inline constexpr Named<Storage> choices<Storage>[] = {
    {Storage::automatic, "auto"}, {Storage::dense, "dense"}, {Storage::sparse, "sparse"}};

// The parameters of a network. Their datasets in files have the same names. In a network of populations w_in are the
// weights of all projections from the inputs, and w_rec those of all others.
enum class Parameter {
    w_in,
    w_rec,
    bias,
    w_out,
    bias_out,
    alpha,
    beta,
    kappa,
    initial_current,
    initial_membrane,
    threshold,
    rho,
    adapt_membrane,
    adapt_spike,
    initial_adaptation
};
template <>
inline constexpr Named<Parameter> choices<Parameter>[] = {{Parameter::w_in, "w_in"},
                                                          {Parameter::w_rec, "w_rec"},
                                                          {Parameter::bias, "bias"},
                                                          {Parameter::w_out, "w_out"},
                                                          {Parameter::bias_out, "bias_out"},
                                                          {Parameter::alpha, "alpha"},
                                                          {Parameter::beta, "beta"},
                                                          {Parameter::kappa, "kappa"},
                                                          {Parameter::initial_current, "initial_current"},
                                                          {Parameter::initial_membrane, "initial_membrane"},
                                                          {Parameter::threshold, "threshold"},
                                                          {Parameter::rho, "rho"},
                                                          {Parameter::adapt_membrane, "adapt_membrane"},
                                                          {Parameter::adapt_spike, "adapt_spike"},
                                                          {Parameter::initial_adaptation, "initial_adaptation"}};

// The sign of all weights of a projection (Dale's law). excitatory: >= 0; inhibitory: <= 0.
enum class Sign { any, excitatory, inhibitory };
template <>
inline constexpr Named<Sign> choices<Sign>[] = {
    {Sign::any, "any"}, {Sign::excitatory, "excitatory"}, {Sign::inhibitory, "inhibitory"}};

enum class TaskKind { delayed_copy, delayed_xor, cue_recall, images, sequences };
template <>
inline constexpr Named<TaskKind> choices<TaskKind>[] = {{TaskKind::delayed_copy, "delayed_copy"},
                                                        {TaskKind::delayed_xor, "delayed_xor"},
                                                        {TaskKind::cue_recall, "cue_recall"},
                                                        {TaskKind::images, "images"},
                                                        {TaskKind::sequences, "sequences"}};

// The input of a bit: the number itself, or spikes of two populations, one for each value.
enum class BitCoding { direct, spikes };
template <>
inline constexpr Named<BitCoding> choices<BitCoding>[] = {{BitCoding::direct, "direct"}, {BitCoding::spikes, "spikes"}};

// The input of a picture at one step: a row, or a pixel.
enum class PictureOrder { rows, pixels };
template <>
inline constexpr Named<PictureOrder> choices<PictureOrder>[] = {{PictureOrder::rows, "rows"},
                                                                {PictureOrder::pixels, "pixels"}};

// The unit of the times of events in a file. automatic: seconds, if the times can be seconds.
enum class TimeUnit { automatic, seconds, milliseconds, microseconds };
template <>
inline constexpr Named<TimeUnit> choices<TimeUnit>[] = {{TimeUnit::automatic, "auto"},
                                                        {TimeUnit::seconds, "s"},
                                                        {TimeUnit::milliseconds, "ms"},
                                                        {TimeUnit::microseconds, "us"}};

// The steps of a sequence from a file that count for the loss: its own, or also those after its end.
enum class LossSteps { own, all };
template <>
inline constexpr Named<LossSteps> choices<LossSteps>[] = {{LossSteps::own, "own"}, {LossSteps::all, "all"}};

// The loss of a readout y [T, b, O]. cross_entropy_*: softmax cross-entropy against labels [b]; the logits are the mean
// of y over the steps with mask 1, its largest value, its sum, or its value at the last of these steps. The others are
// means over the elements of y, against targets [T, b, O]. automatic: what the data mean.
enum class LossKind {
    automatic,
    cross_entropy_mean,
    cross_entropy_max,
    cross_entropy_sum,
    cross_entropy_last,
    binary_cross_entropy,
    mean_squared_error
};
template <>
inline constexpr Named<LossKind> choices<LossKind>[] = {{LossKind::automatic, "auto"},
                                                        {LossKind::cross_entropy_mean, "cross_entropy_mean"},
                                                        {LossKind::cross_entropy_max, "cross_entropy_max"},
                                                        {LossKind::cross_entropy_sum, "cross_entropy_sum"},
                                                        {LossKind::cross_entropy_last, "cross_entropy_last"},
                                                        {LossKind::binary_cross_entropy, "binary_cross_entropy"},
                                                        {LossKind::mean_squared_error, "mean_squared_error"}};
constexpr bool takes_labels(LossKind kind) {
    return kind == LossKind::cross_entropy_mean || kind == LossKind::cross_entropy_max ||
           kind == LossKind::cross_entropy_sum || kind == LossKind::cross_entropy_last;
}
// Whether an answer is right or wrong.
constexpr bool has_accuracy(LossKind kind) { return kind != LossKind::mean_squared_error; }

enum class OptimiserKind { adam, adamw, sgd };
template <>
inline constexpr Named<OptimiserKind> choices<OptimiserKind>[] = {
    {OptimiserKind::adam, "adam"}, {OptimiserKind::adamw, "adamw"}, {OptimiserKind::sgd, "sgd"}};

// The course of the learning rate.
enum class RateSchedule { constant, cosine, step };
template <>
inline constexpr Named<RateSchedule> choices<RateSchedule>[] = {
    {RateSchedule::constant, "constant"}, {RateSchedule::cosine, "cosine"}, {RateSchedule::step, "step"}};

// full: the states of all T steps, for code that reads membranes. segments: of about sqrt(T) steps, and their first
// states; this saves memory and costs one more forward pass.
enum class TapeKind { full, segments };
template <>
inline constexpr Named<TapeKind> choices<TapeKind>[] = {{TapeKind::full, "full"}, {TapeKind::segments, "segments"}};

enum class FlossingTime { before, at, every, adaptive };
template <>
inline constexpr Named<FlossingTime> choices<FlossingTime>[] = {{FlossingTime::before, "before"},
                                                                {FlossingTime::at, "at"},
                                                                {FlossingTime::every, "every"},
                                                                {FlossingTime::adaptive, "adaptive"}};

// What flossing counts its targets from: 0, or the mean over neurons of ln rho, near which adapting neurons have modes.
enum class TargetFrom { zero, adaptation };
template <>
inline constexpr Named<TargetFrom> choices<TargetFrom>[] = {{TargetFrom::zero, "zero"},
                                                            {TargetFrom::adaptation, "adaptation"}};

// exponent: lambda_1, per step; gradient: log10 of |dL/dh[0]| / |dL/dh[T]|.
enum class AdaptiveQuantity { exponent, gradient };
template <>
inline constexpr Named<AdaptiveQuantity> choices<AdaptiveQuantity>[] = {{AdaptiveQuantity::exponent, "exponent"},
                                                                        {AdaptiveQuantity::gradient, "gradient"}};

// The type in which sums over neurons, sequences and time are accumulated and sent between ranks: float32 for speed;
// float64 so that the rounded result does not depend on the order of the terms, that is, on the grid.
enum class Sums { float32, float64 };
template <>
inline constexpr Named<Sums> choices<Sums>[] = {{Sums::float32, "float32"}, {Sums::float64, "float64"}};

// The precision of products of float matrices, if the hardware has a choice: float (fp32), or operands rounded to TF32
// or bfloat16, which is faster and less exact. The CPU always uses fp32.
enum class Precision { fp32, tf32, bf16 };
template <>
inline constexpr Named<Precision> choices<Precision>[] = {
    {Precision::fp32, "fp32"}, {Precision::tf32, "tf32"}, {Precision::bf16, "bf16"}};

// automatic: cuda where there is a GPU, else cpu.
enum class BackendKind { automatic, cpu, cuda };
template <>
inline constexpr Named<BackendKind> choices<BackendKind>[] = {
    {BackendKind::automatic, "auto"}, {BackendKind::cpu, "cpu"}, {BackendKind::cuda, "cuda"}};

// Between ranks. automatic: mpi with the backend cpu, nccl with cuda. staged: from GPUs through host memory.
enum class CommKind { automatic, mpi, nccl, staged };
template <>
inline constexpr Named<CommKind> choices<CommKind>[] = {
    {CommKind::automatic, "auto"}, {CommKind::mpi, "mpi"}, {CommKind::nccl, "nccl"}, {CommKind::staged, "staged"}};

enum class PassKind { automatic, loop };
template <>
inline constexpr Named<PassKind> choices<PassKind>[] = {{PassKind::automatic, "auto"}, {PassKind::loop, "loop"}};

// The values are the numbers of the signals.
enum class StopSignal : int { usr1 = SIGUSR1, usr2 = SIGUSR2, term = SIGTERM, hup = SIGHUP, xcpu = SIGXCPU };
template <>
inline constexpr Named<StopSignal> choices<StopSignal>[] = {{StopSignal::usr1, "USR1"},
                                                            {StopSignal::usr2, "USR2"},
                                                            {StopSignal::term, "TERM"},
                                                            {StopSignal::hup, "HUP"},
                                                            {StopSignal::xcpu, "XCPU"}};

// The rules of a network that a NIR file does not say. automatic: what its metadata say, else the first after it.
enum class NirReset { automatic, zero, subtract };
template <>
inline constexpr Named<NirReset> choices<NirReset>[] = {
    {NirReset::automatic, "auto"}, {NirReset::zero, "zero"}, {NirReset::subtract, "subtract"}};

// The decay in a step: euler 1 - dt/tau, exponential exp(-dt/tau).
enum class NirIntegration { automatic, euler, exponential };
template <>
inline constexpr Named<NirIntegration> choices<NirIntegration>[] = {{NirIntegration::automatic, "auto"},
                                                                    {NirIntegration::euler, "euler"},
                                                                    {NirIntegration::exponential, "exponential"}};

// Whether the current that reaches the membrane in a step is the one after that step or before it.
enum class NirOrder { automatic, fresh, old };
template <>
inline constexpr Named<NirOrder> choices<NirOrder>[] = {
    {NirOrder::automatic, "auto"}, {NirOrder::fresh, "new"}, {NirOrder::old, "old"}};

// An enum with a table.
template <class Choice>
concept HasNames = std::size(choices<Choice>) > 0;

template <HasNames Choice>
constexpr std::string_view name_of(Choice value) {
    for (const auto& choice : choices<Choice>)
        if (choice.value == value) return choice.name;
    return {};  // no value of the enum
}

template <HasNames Choice>
std::vector<std::string> names_of() {
    std::vector<std::string> names;
    for (const auto& choice : choices<Choice>) names.emplace_back(choice.name);
    return names;
}

// The value with this name, or nothing.
template <HasNames Choice>
constexpr std::optional<Choice> find_choice(std::string_view name) {
    for (const auto& choice : choices<Choice>)
        if (choice.name == name) return choice.value;
    return std::nullopt;
}

// Throws Error(Exit::bad_file) that begins with `where` ("a.h5: attribute reset of /network") and lists the known
// names.
[[noreturn]] void refuse_name(std::string_view name, const std::vector<std::string>& known, const std::string& where);

// The value with this name. Calls refuse_name if there is none.
template <HasNames Choice>
Choice choice_from(std::string_view name, const std::string& where) {
    if (const auto choice = find_choice<Choice>(name)) return *choice;
    refuse_name(name, names_of<Choice>(), where);
}

inline constexpr int parameter_count = std::size(choices<Parameter>);
// Their values count from 0 in the order of the table.
inline constexpr std::array<Parameter, parameter_count> all_parameters = [] {
    std::array<Parameter, parameter_count> all{};
    for (std::size_t p = 0; p < all.size(); ++p) all[p] = choices<Parameter>[p].value;
    return all;
}();

}  // namespace spikefloss
