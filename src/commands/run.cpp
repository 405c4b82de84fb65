// Writes the records of a run, and measures during training.
#include "commands/run.hpp"

#include "config/schema.hpp"
#include "core/whole_file.hpp"
#include "io/build_text.hpp"
#include "io/network_file.hpp"

#include <array>
#include <cmath>

namespace spikefloss {
namespace {

// Neurons whose spikes are recorded.
constexpr Index most_shown = 256;

bool better(const Outcome& now, const Progress& best) {
    return std::isfinite(now.loss) &&
           (best.best_step < 0 ||
            (std::isnan(now.accuracy) ? now.loss < best.best_loss : now.accuracy > best.best_accuracy));
}

bool due(std::int64_t every, std::int64_t step) { return every > 0 && step % every == 0; }

}  // namespace

Run::Run(const ProcessGrid& grid, const Config& config, Trainer& trainer, ProgressDisplay& display, LiveServer* server,
         bool begun, CheckpointOrigin origin)
    : grid_(grid),
      config_(config),
      trainer_(trainer),
      display_(display),
      server_(server),
      origin_(std::move(origin)),
      last_report_(Clock::now()),
      last_unit_(last_report_),
      flossing_effect_(trainer.flossing_before()) {
    Progress& p = trainer.progress();
    if (p.best_step >= 0) {
        const std::string fault = checkpoint_fault(best_checkpoint(config.run.directory, p.best_step), grid);
        if (!fault.empty()) {
            display.say("warning: the best network is looked for again from here on: " + fault);
            p.best_step = -1;
        }
    }
    saved_best_ = p.best_step;
    grid.agree([&] {
        if (begun) saved_ = position();
        if (grid.rank() != 0) return;
        const std::optional<Position> resumed = begun ? std::optional(position()) : std::nullopt;
        metrics_.emplace(config.run.directory + "/metrics.jsonl", RecordKind::metrics, resumed, origin_.metrics);
        if (config.diagnostics.every > 0)
            diagnostics_.emplace(config.run.directory + "/diagnostics.jsonl", RecordKind::diagnostics, resumed,
                                 origin_.diagnostics);
        if (diagnostics_) diagnosed_ = diagnostics_->last_kept();
        for (const auto* lines : {&metrics_, &diagnostics_})
            if (*lines)
                for (const std::string& remark : (*lines)->remarks()) display.say("warning: " + remark);
        if (config.metrics.tensorboard) events_.emplace(config.run.directory + "/tensorboard");
    });
    display.start(p.step);
    if (server) server->start(config.run.directory, p.step, config.train.steps, grid.ranks());
    if (!begun && config.diagnostics.every > 0) diagnose(nullptr);
}

void Run::after(const StepReport& report) {
    Progress& p = trainer_.progress();
    const auto now = Clock::now();
    p.seconds += std::chrono::duration<double>(now - last_unit_).count();
    p.flossing_seconds += report.flossing_seconds;
    data_seconds_ += report.data_seconds;
    last_unit_ = now;
    flossing_in_a_row_ = report.flossing ? flossing_in_a_row_ + 1 : 0;
    MetricsEntry entry{report, p.floss_steps, p.running_accuracy, p.seconds, p.flossing_seconds};
    sequences_ += report.flossing ? config_.flossing.batch : config_.train.batch;
    display_.update(entry);
    if (server_) server_->at(p.step, p.floss_steps);
    const std::int64_t count = report.flossing ? p.floss_steps : p.step;
    const bool last = !report.flossing && (p.step == config_.train.steps || good_enough());
    const bool evaluates = !report.flossing && (last || due(config_.train.test_every, p.step));
    if (evaluates && trainer_.validates()) {
        entry.validation = validation_ = trainer_.evaluate(Purpose::validation);
        if (config_.train.keep_best) keep_if_best(*validation_);
        entry.best_step = p.best_step;
    } else if (evaluates && !last) {  // test data are looked at during training only if there are no others
        entry.test = trainer_.evaluate(Purpose::test);
    }
    if (last) entry.test = test().test;
    if (evaluates || due(config_.train.report_every, count)) {
        const double elapsed = std::chrono::duration<double>(now - last_report_).count();
        entry.sequences_per_second = static_cast<double>(sequences_) / elapsed;
        entry.data_seconds_share = data_seconds_ / elapsed;
        grid_.agree([&] {
            if (metrics_) metrics_->write(metrics_line(entry));
            if (events_) events_->add_line(metrics_line(entry));
        });
        display_.report(entry);
        sequences_ = 0;
        data_seconds_ = 0.0;
        last_report_ = Clock::now();
    }
    if (report.flossing && p.step == 0)
        if (const std::string note = flossing_effect_.after(p.floss_steps, report.penalty->loss); !note.empty())
            display_.say(note);
    if (!report.flossing && due(config_.diagnostics.every, p.step)) diagnose(&report.norms);
    // In a long series of flossing steps before one training step, that step's checkpoint is replaced as often.
    if (due(config_.checkpoint.every, report.flossing ? flossing_in_a_row_ : p.step)) checkpoint();
}

bool Run::good_enough() const {
    return config_.train.stop_accuracy > 0.0 && trainer_.progress().running_accuracy > config_.train.stop_accuracy;
}

void Run::finish() {
    bool missing = diagnostics_ && diagnosed_ != position();
    grid_.control().broadcast(&missing, sizeof missing, 0);
    if (missing) diagnose(nullptr);
}

const FinalTest& Run::test() {
    if (tested_ == position()) return test_;
    const Progress& p = trainer_.progress();
    if (p.best_step >= 0) {
        const std::string path = best_checkpoint(config_.run.directory, p.best_step);
        require_whole_checkpoint(path, grid_);
        HostNetwork best;
        grid_.agree([&] { best = read_network(path, grid_.shape().neuron_shards, grid_.neuron_shard()); });
        test_.test = trainer_.evaluate(Purpose::test, best, &test_.answers);
        const double accuracy = std::isnan(test_.test.accuracy) ? test_.test.accuracy : p.best_accuracy;
        test_.validation = Outcome{p.best_loss, accuracy};
        test_.step = p.best_step;
    } else {
        test_ = {{}, validation_, p.step};
        test_.test = trainer_.evaluate(Purpose::test, &test_.answers);
    }
    tested_ = position();
    return test_;
}

void Run::keep_if_best(const Outcome& validation) {
    Progress& p = trainer_.progress();
    if (!better(validation, p)) return;
    p.best_step = p.step;
    p.best_accuracy = std::isnan(validation.accuracy) ? 0.0 : validation.accuracy;
    p.best_loss = validation.loss;
    const Watchdog::Blocking blocking(grid_.watchdog().get(), "writing the best checkpoint");
    write_best_checkpoint(grid_, config_.run.directory, state_to_save(), sync(), saved_best_);
}

TrainingState Run::state_to_save() {
    grid_.control().broadcast(&trainer_.progress().seconds, sizeof(double), 0);
    grid_.control().broadcast(&trainer_.progress().flossing_seconds, sizeof(double), 0);
    return trainer_.state();
}

void Run::checkpoint() {
    const Watchdog::Blocking blocking(grid_.watchdog().get(), "writing a checkpoint");
    const TrainingState state = state_to_save();
    if (config_.metrics.tensorboard) {
        const auto histograms = parameter_histograms(grid_, state.network);
        grid_.agree([&] {
            for (const auto& [name, histogram] : histograms)
                if (events_) events_->add(state.progress.step, "parameters/" + name, histogram);
        });
    }
    write_checkpoint(grid_, config_.run.directory, state, sync(), static_cast<int>(config_.checkpoint.keep));
    saved_ = position();
    saved_best_ = state.progress.best_step;
}

const CheckpointOrigin& Run::sync() {
    std::array<std::int64_t, 2> counts{-1, -1};
    grid_.agree([&] {
        if (metrics_) metrics_->sync(), counts[0] = metrics_->count();
        if (diagnostics_) diagnostics_->sync(), counts[1] = diagnostics_->count();
        if (events_) events_->sync();
    });
    grid_.control().broadcast(counts.data(), sizeof counts, 0);
    // A file that this session does not write keeps its number of records.
    if (counts[0] >= 0) origin_.metrics = counts[0];
    if (counts[1] >= 0) origin_.diagnostics = counts[1];
    origin_.config = to_toml(config_, false);
    origin_.build = build_text();
    return origin_;
}

std::string Run::saved_text() const {
    if (saved_.first < 0) return "no checkpoint had been written yet";
    return fmt::format("the last checkpoint, after training step {} and flossing step {}, is whole", saved_.first,
                       saved_.second);
}

std::pair<std::int64_t, std::int64_t> Run::position() const {
    return {trainer_.progress().step, trainer_.progress().floss_steps};
}

void Run::diagnose(const GradientNorms* norms) {
    const Diagnosis diagnosis = trainer_.diagnose();
    const Raster raster = trainer_.raster(most_shown);
    const std::int64_t step = position().first, floss_step = position().second;
    if (std::isfinite(diagnosis.spectrum.exponents[0])) display_.measured(diagnosis.spectrum.exponents[0]);
    if (const std::string lost = lost_text(diagnosis.spectrum.exponents); !lost.empty() && !lost_told_) {
        display_.say(
            fmt::format("warning: at step {}, {}; they are null in diagnostics.jsonl, here and later "
                        "(fewer diagnostics.exponents leave them out)",
                        step, lost));
        lost_told_ = true;
    }
    grid_.agree([&] {
        if (!diagnostics_) return;
        const std::string line = diagnostics_line(step, floss_step, diagnosis, norms);
        diagnostics_->write(line);
        diagnosed_ = {step, floss_step};
        if (events_) {
            events_->add_line(line);
            events_->add(step, "diagnostics/exponents", Histogram(diagnosis.spectrum.exponents));
        }
        write_whole_file(config_.run.directory + "/raster.json", raster_text(step, floss_step, raster));
    });
}

}  // namespace spikefloss
