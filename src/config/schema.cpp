// The table of all keys: what each means, its unit, its choices and its range. docs/config.md, the comments of
// to_toml and every check of a single value come from here.
#include "config/schema.hpp"

#include "config/section.hpp"

namespace spikefloss {
namespace {

constexpr double largest_decay = 0.999999;  // of an optimiser: well below 1 in float32, too

void add_run(Section s, RunConfig& c) {
    s.add("seed", c.seed, "Seed of initial weights, data and starting bases; the same seed gives the same run.",
          {0, 9e18});
    s.add("directory", c.directory,
          "Folder for metrics, log and checkpoints; empty: runs/ followed by the name of the config file.");
    s.add("precision", c.precision,
          "Precision of matrix products on a GPU; states, weights and gradients are always float32. fp32: factors "
          "with all 24 bits; tf32: rounded to 11 bits; bf16: to 8 bits, fastest. Where W_rec is too large for shared "
          "memory: with 30, 22 or 14 bits of the largest weight of a row. The CPU always uses fp32.");
    s.add("sums", c.sums,
          "Number format in which gradients and norms are summed over steps and sequences; float64 is slower and "
          "closer to the exact sum.");
    s.add("stop_signals", c.stop_signals,
          "Signals that stop the run after its step, with a checkpoint and exit code 85; INT (Ctrl-C) always does. A "
          "second INT, or a TERM more than three seconds after the first, ends it at once.");
}

void add_task(Section s, TaskConfig& c) {
    s.add("name", c.name,
          "delayed_copy: repeat the input bit after a delay; delayed_xor: xor of two past bits; cue_recall: name a cue "
          "after a delay; images: classify pictures shown piece by piece; sequences: your own data, from HDF5 files.");
    s.add("duration", c.duration,
          "Length of a sequence in ms, for delayed_copy and delayed_xor (cue_recall lasts cues x cue + delay + answer, "
          "images one row or pixel per step).",
          {above(0), 1e9});
    s.add("delay", c.delay,
          "Delay d in ms: the target is the bit at t - d (delayed_copy), or the xor of the bits at t - d and t - d/2 "
          "(delayed_xor); for cue_recall the time between cue and answer.",
          {0, 1e9});
    s.add("steps_per_bit", c.steps_per_bit, "Number of steps that each input bit lasts (delayed_copy, delayed_xor).",
          {1, many});
    s.add("coding", c.coding,
          "Input of a bit (delayed_copy, delayed_xor). direct: the number 0 or 1 on one input; spikes: random spikes "
          "of two input populations, one for each value.");
    s.add("inputs", c.inputs,
          "Number of input neurons over all populations, for coding = spikes (even) and cue_recall (a multiple of "
          "classes); 1 for coding = direct; images set their own number.",
          {1, 1e6});
    s.add("rate_active", c.rate_active,
          "Spike probability per step of an input neuron whose population codes the present value.", {0, 1});
    s.add("rate_silent", c.rate_silent, "Spike probability per step of the input neurons of the other populations.",
          {0, 1});
    s.add("classes", c.classes, "Number of different cues in cue_recall.", {2, 1e6});
    s.add(
        "cues", c.cues,
        "Number of cues that cue_recall shows one after the other. The answer names all of them; classes^cues outputs.",
        {1, 20});
    s.add("cue", c.cue, "Time for which cue_recall shows each cue, in ms.", {0, 1e9});
    s.add("answer", c.answer, "Time over which cue_recall reads the answer, at the end of the sequence, in ms.",
          {0, 1e9});
    s.add("noise", c.noise, "Spike probability per step of every input neuron of cue_recall during delay and answer.",
          {0, 1});
    s.add("images", c.images, "Folder with the four IDX files of the pictures, gzip-compressed or not.");
    s.add("order", c.order, "Input of pictures. rows: one picture row per step; pixels: one pixel per step.");
    s.add("validation", c.validation,
          "Number of training pictures held back from training; the test pictures are never trained on.", {0, many});
    s.add("file", c.file,
          "sequences: HDF5 file of the training data, with events or a dense x, gzip-compressed as a whole or not "
          "(docs/data.md).");
    s.add("validation_file", c.validation_file,
          "sequences: file of the validation data; empty: those that are held out of task.file, if any.");
    s.add("test_file", c.test_file, "sequences: file of the test data; empty: those that are held out of task.file.");
    s.add("validation_share", c.validation_share,
          "sequences: share of task.file that is held out for validation, at random and the same for every seed; with "
          "group_by a share of the groups.",
          {0, below(1)});
    s.add("test_share", c.test_share, "sequences: share of task.file that is held out for the test, likewise.",
          {0, below(1)});
    s.add("group_by", c.group_by,
          "sequences: dataset of task.file with a whole number for each sequence, such as extra/speaker, or name[c] "
          "for column c of a table; no group is divided between training, validation and test.");
    s.add("validation_groups", c.validation_groups, "sequences: groups that are held out for validation.");
    s.add("test_groups", c.test_groups, "sequences: groups that are held out for the test.");
    s.add("longest", c.longest,
          "sequences: length T of all sequences in ms; shorter ones end with zeros, and what is later is cut off. 0: "
          "the longest of all files.",
          {0, 1e9});
    s.add("mask", c.mask,
          "sequences: steps that count for the loss. own: those of the sequence itself (of events, until the last "
          "one); all: also the zeros after it.");
    s.add("channels", c.channels, "sequences: number of channels of the events; 0: the largest in all files, plus 1.",
          {0, 65536});
    s.add("channels_per_input", c.channels_per_input,
          "sequences: number of neighbouring channels that are added up to one input.", {1, 65536});
    s.add("binary", c.binary, "sequences: an input is 1 where the sum is above 0, else 0; false: the sum itself.");
    s.add("time_unit", c.time_unit,
          "sequences: unit of the times of events. auto: seconds; times that look like another unit are refused.");
    s.add("augment_shift", c.augment_shift,
          "sequences: each training sequence is shifted by a random number of channels, at most this many.",
          {0, 65535});
    s.add("augment_stretch", c.augment_stretch,
          "sequences: the times of each training sequence are multiplied by a random factor between 1 - this and "
          "1 + this (events only).",
          {0, below(1)});
    s.add("augment_drop", c.augment_drop,
          "sequences: probability to leave out an event of a training sequence, or a number of a dense x.",
          {0, below(1)});
    s.add("memory", c.memory,
          "sequences: a dense x of at most this many GB (as float32) is held in memory by each rank; a larger one is "
          "read during training, the next batch while the present one is computed.",
          {0, 1e6});
}

// The keys that training and flossing share; each keeps its own optimiser state.
void add_optimiser(Section& s, OptimiserConfig& c) {
    s.add("optimiser", c.optimiser, "Rule of the weight updates; adamw is adam with decoupled weight decay.");
    s.add("learning_rate", c.learning_rate, "Step size of the weight updates.", {0, 1e6, least_float});
    s.add("beta1", c.beta1, "adam, adamw: decay per update of the mean gradient.", {0, largest_decay});
    s.add("beta2", c.beta2, "adam, adamw: decay per update of the mean squared gradient.", {0, largest_decay});
    s.add("eps", c.eps,
          "adam, adamw: added to the root mean squared gradient; gradients far below it hardly change the weights, so "
          "lower it for vanishing gradients, down to 1e-30. Gradients below 1e-38 are 0 in float32.",
          {1e-30, 1});
    s.add("weight_decay", c.weight_decay,
          "adamw: an update subtracts learning_rate times this fraction of each weight.", {0, 1e6, least_float});
    s.add("momentum", c.momentum, "sgd: fraction of the last update that is added to the next.", {0, largest_decay});
    s.add("clip", c.clip,
          "Largest norm of the gradient of all parameters together; a larger gradient is scaled down; 0: off.",
          {0, 1e30, 1e-30});
    s.add("parameters", c.parameters,
          "Which parameters change; alpha, beta, kappa are the decays of synapses, membranes, readout. w_in are the "
          "weights of all projections from the input, w_rec those of all others, projection.NAME those of one.");
}

void add_train(Section s, TrainConfig& c) {
    s.add("batch", c.batch, "Number of sequences per training step, over all ranks (B).", {1, many});
    s.add("steps", c.steps, "Number of training steps (weight updates on the task).", {0, many});
    s.add(
        "loss", c.loss,
        "Loss of the task. With labels: softmax cross-entropy whose logits are the mean of the readout over the steps "
        "that count, its maximum, its sum, or its value at the last of these steps. With targets: binary "
        "cross-entropy of 0 and 1, or mean squared error. auto: cross_entropy_mean with labels, binary_cross_entropy "
        "for targets that are bits, mean_squared_error for other targets.");
    add_optimiser(s, c);
    s.add("schedule", c.schedule,
          "Course of the learning rate: constant; cosine, falling to schedule_factor; step, multiplied by "
          "schedule_factor every schedule_steps.");
    s.add("schedule_steps", c.schedule_steps,
          "Training steps between reductions (step) or until the final rate (cosine; 0: the whole training).",
          {0, many});
    s.add("schedule_factor", c.schedule_factor,
          "step: factor of each reduction; cosine: final fraction of the learning rate.", {0, 1});
    s.add("rate_l1", c.rate_l1,
          "Penalty on firing: weight of the spike count of a neuron in a sequence, mean over neurons and sequences; 0: "
          "off (docs/equations.md).",
          {0, 1e30, 1e-30});
    s.add("rate_l2", c.rate_l2,
          "Penalty on firing: weight of the square of a neuron's spike count in a sequence (mean over sequences), mean "
          "over neurons; 0: off.",
          {0, 1e30, 1e-30});
    s.add(
        "rate_bound", c.rate_bound,
        "Penalty on firing: weight of the distance of a neuron's rate (spikes per step, mean over sequences and time) "
        "from the range rate_lower to rate_upper, mean over neurons; 0: off.",
        {0, 1e30, 1e-30});
    s.add("rate_lower", c.rate_lower, "Lower end of the range of rate_bound, in spikes per step.", {0, 1});
    s.add("rate_upper", c.rate_upper, "Upper end of the range of rate_bound, in spikes per step.", {0, 1});
    s.add("adjoint_cap", c.adjoint_cap,
          "Largest norm of dL/dstate of a sequence at any step, in units of one readout injection (half the norm of "
          "W_out / number of loss terms), so that an exploding mode does not dominate the others; 0: off.",
          {0, 1e30, 1e-30});
    s.add("tape", c.tape,
          "States that the forward pass of the task keeps for the backward pass. full: all T steps; segments: about "
          "sqrt(T) steps, and each segment runs forward a second time. This takes far less memory for long sequences, "
          "and the time of one more forward pass. Flossing and diagnostics always use the full tape.");
    s.add("report_every", c.report_every, "Training steps between entries of metrics.jsonl.", {1, many});
    s.add("test_every", c.test_every,
          "Training steps between evaluations on validation data, or on test data for a task without validation data; "
          "0: only at the end.",
          {0, many});
    s.add("test_batches", c.test_batches,
          "Number of batches of fresh data in one evaluation. A held-out data set (images) is always taken whole, "
          "every sample once.",
          {1, many});
    s.add("keep_best", c.keep_best,
          "Keep the network with the highest accuracy on validation data (lowest loss for regression) as best_STEP.h5, "
          "and look at the test data with this network at the end. Needs validation data (task.validation) and "
          "test_every.");
    s.add("stop_accuracy", c.stop_accuracy,
          "End training when the running accuracy (mean with factor 0.95 per step) exceeds this fraction; 0: off.",
          {0, 1});
}

void add_flossing(Section s, FlossingConfig& c) {
    s.add("schedule", c.schedule,
          "Times of flossing, any of: before training; at given training steps; every n-th training step; adaptive: "
          "when a measured quantity leaves a band. Empty: never, and the other keys of this section have no effect.");
    s.add("first", c.first,
          "Number of the first exponent that flossing moves to the target. Those before it are only measured: with "
          "adaptation the leading ones are those of w, near ln rho.",
          {1, 3e6});
    s.add("exponents", c.exponents,
          "Number k of surrogate Lyapunov exponents that flossing moves to the target, from flossing.first on; with "
          "those before it at most the state size D (N for membranes, N for currents unless tau_syn = 0, N for "
          "adaptation).",
          {1, 3e6});
    s.add("target", c.target,
          "Target Lyapunov exponents per step: one number for all, or one for each of the k exponents.", {-1e3, 1e3});
    s.add("target_from", c.target_from,
          "What the target is counted from: zero, or adaptation: the mean of ln rho over neurons, near which adapting "
          "neurons have slow modes.");
    s.add("warmup", c.warmup, "Steps at the start of a sequence that do not count for the exponents.", {0, many});
    s.add("qr_interval", c.qr_interval,
          "Steps between two re-orthonormalisations (QR) of the tangent basis. 0: chosen during the pass, as long as "
          "float32 allows (docs/flossing.md); the exponents do not depend on it, up to rounding.",
          {0, many});
    s.add("batch", c.batch, "Number of sequences per flossing step, over all ranks.", {1, many});
    s.add("horizon", c.horizon, "Length of the sequences that are flossed in ms; 0: the task's length.", {0, 1e9});
    s.add("through_state", c.through_state,
          "Use the gradient of the exponents through the trajectory, too, not only through the recurrent weights in "
          "the Jacobian.");
    s.add("jacobian_reset", c.jacobian_reset,
          "detached: the tangent map has the reset factor (1 - s), as in backpropagation; ignored: it does not, as in "
          "the authors' script.");
    add_optimiser(s, c);
    s.add("before", c.before, "schedule before: number of flossing steps before training.", {0, many});
    s.add("at", c.at, "schedule at: flossing happens before these training steps.", {0, many});
    s.add("at_steps", c.at_steps, "schedule at: number of flossing steps each time.", {1, many});
    s.add("every", c.every, "schedule every: training steps per flossing step.", {1, many});
    s.add("weight", c.weight,
          "schedule every: above 0, the penalty is added to the task's loss with this weight, and there are no "
          "separate flossing steps; 0: separate steps.",
          {0, 1e30, 1e-30});
    s.add("adaptive_quantity", c.adaptive_quantity,
          "schedule adaptive: the measured quantity. exponent: number flossing.first per step; gradient: log10 of the "
          "growth of dL/dstate from the end of the sequence back to its start.");
    s.add("adaptive_band", c.adaptive_band,
          "schedule adaptive: lowest and highest value of that quantity at which flossing is not needed.", {-1e3, 1e3});
    s.add(
        "adaptive_lag", c.adaptive_lag,
        "schedule adaptive: time in ms over which the gradient should survive, such as the delay of the task. Above 0, "
        "adaptive_band and adaptive_slack are per this time, not per step: natural logarithms of the change of the "
        "gradient over it.",
        {0, 1e9});
    s.add("adaptive_every", c.adaptive_every, "schedule adaptive: training steps between measurements.", {1, many});
    s.add("adaptive_steps", c.adaptive_steps,
          "schedule adaptive: largest number of flossing steps after one measurement.", {1, many});
    s.add("adaptive_slack", c.adaptive_slack,
          "schedule adaptive: in these flossing steps an exponent between target - adaptive_slack and target is not "
          "penalised; per step, or per adaptive_lag. 0: no slack.",
          {0, 1e3});
    s.add("adaptive_progress", c.adaptive_progress,
          "schedule adaptive: no measurement and no flossing if the running loss (mean with factor 0.95 per step) has "
          "fallen by more than this fraction since the last time; 0: off.",
          {0, 1});
    s.add("stop_step", c.stop_step, "No flossing from this training step on; 0: no such limit.", {0, many});
    s.add("stop_accuracy", c.stop_accuracy,
          "No flossing while the running accuracy (mean with factor 0.95 per step) exceeds this fraction; 0: off.",
          {0, 1});
    s.add(
        "stop_band", c.stop_band,
        "End flossing for good once exponent number flossing.first per step is between these two numbers; empty: off.",
        {-1e3, 1e3});
}

void add_rest(std::vector<Key>& keys, Config& config) {
    Section diagnostics(keys, "diagnostics");
    DiagnosticsConfig& d = config.diagnostics;
    diagnostics.add("every", d.every,
                    "Training steps between records of the spectrum, of dL/dstate at every lag, of the firing rate and "
                    "of the gradient norms; 0: off.",
                    {0, many});
    diagnostics.add("exponents", d.exponents, "Number of leading exponents to record; at most the state size D.",
                    {1, 2e6});
    diagnostics.add("batch", d.batch, "Number of sequences to average over.", {1, many});
    diagnostics.add("warmup", d.warmup, "Steps at the start of a sequence that do not count for the exponents.",
                    {0, many});
    diagnostics.add("qr_interval", d.qr_interval, "As flossing.qr_interval, for the recorded exponents.", {0, many});

    Section metrics(keys, "metrics");
    metrics.add(
        "tensorboard", config.metrics.tensorboard,
        "Also write the records for TensorBoard, into the folder tensorboard of the run directory, with histograms of "
        "the parameters at every checkpoint and of the exponents at every record of diagnostics.");

    Section checkpoint(keys, "checkpoint");
    checkpoint.add("every", config.checkpoint.every, "Training steps between checkpoints; 0: only at the end.",
                   {0, many});
    checkpoint.add("keep", config.checkpoint.keep, "Number of newest checkpoints that are kept.", {1, many});

    Section serve(keys, "serve");
    ServeConfig& w = config.serve;
    serve.add(
        "port", w.port,
        "Port at which rank 0 shows the run in progress: / is a page for people, /metrics is for Prometheus; 0: off.",
        {0, 65535});
    serve.add("address", w.address,
              "Listening address. 127.0.0.1: only this machine; 0.0.0.0: every machine that can reach this one; this "
              "needs a token.");
    serve.add(
        "token", w.token,
        "Secret of at least 8 characters that a visitor must show (?token=..., or Authorization: Bearer ...). The "
        "program never shows or stores it. Empty: serve.token_file.");
    keys.back().secret = true;
    serve.add("token_file", w.token_file,
              "File whose first line is the token. Empty: the environment variable SPIKEFLOSS_TOKEN; without that, "
              "everyone who can reach the address can see the page.");

    Section parallel(keys, "parallel");
    ParallelConfig& p = config.parallel;
    parallel.add(
        "grid", p.grid,
        "Process grid PxQ: neurons over P groups of ranks, sequences over Q; auto: all ranks share the sequences.");
    parallel.add("backend", p.backend,
                 "Device of the computation; auto: an NVIDIA GPU (cuda) if there is one, else cpu.");
    parallel.add("comm", p.comm,
                 "Communication between ranks. mpi: from the memory of CPUs; nccl: from GPU to GPU; staged: from GPUs "
                 "through the memory of CPUs, so that ranks can share a GPU; auto: mpi with cpu, nccl with cuda.");
    parallel.add("threads", p.threads, "Threads per rank; 0: the machine's cores divided by its ranks.", {0, 4096});
    parallel.add(
        "passes", p.passes,
        "How many steps an operation of states and tangents takes. auto: all steps of a chunk where the device "
        "has such a pass for the network; loop: one step. The log of a run names the passes.");

    Section watchdog(keys, "watchdog");
    watchdog.add("seconds", config.watchdog.seconds,
                 "Seconds that a rank waits for the others. Then the job ends with exit code 75 and names the ranks "
                 "that are lost or stuck. Choose more than the longest step takes; 0: no limit.",
                 {0, 1e7});
}

}  // namespace

std::vector<Key> keys_of(Config& config) {
    std::vector<Key> keys;
    add_run({keys, "run"}, config.run);
    add_network_keys(keys, config);
    add_task({keys, "task"}, config.task);
    add_train({keys, "train"}, config.train);
    add_flossing({keys, "flossing"}, config.flossing);
    add_rest(keys, config);
    return keys;
}

}  // namespace spikefloss
