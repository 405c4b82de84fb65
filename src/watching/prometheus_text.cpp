// Gauges from the newest records, by prometheus-cpp.
#include "watching/prometheus_text.hpp"

#include <build_info.hpp>

#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace spikefloss {
namespace {

using Json = RunRecords::Json;

class Gauges {
public:
    void set(const char* name, const char* help, double value, const prometheus::Labels& labels = {}) {
        prometheus::BuildGauge()
            .Name(std::string("spikefloss_") + name)
            .Help(help)
            .Register(registry_)
            .Add(labels)
            .Set(value);
    }
    // Sets nothing if the field is missing or was not finite.
    void set(const char* name, const char* help, const Json& line, const char* field,
             const prometheus::Labels& labels = {}) {
        if (line.is_object() && line.contains(field) && line[field].is_number())
            set(name, help, line[field].get<double>(), labels);
    }
    void exponents(const Json& line, const char* of) {
        if (!line.is_object() || !line.contains("exponents")) return;
        int index = 0;
        for (const Json& value : line["exponents"])
            if (++index; value.is_number())
                set("exponent", "Surrogate Lyapunov exponent per step, in the order of the basis.", value.get<double>(),
                    {{"index", std::to_string(index)}, {"of", of}});
    }
    std::string text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

private:
    prometheus::Registry registry_;
};

}  // namespace

bool has_prometheus() { return true; }

std::string prometheus_text(const RunRecords& records, const LiveStatus& status) {
    const Json &training = records.training(), &flossing = records.flossing(), &diagnosis = records.diagnosis();
    Gauges gauges;
    gauges.set("build_info", "1; the labels name the version of the program.", 1.0,
               {{"version", build_info::version}, {"commit", build_info::commit}});
    gauges.set("ranks", "MPI ranks.", status.ranks);
    gauges.set("training_steps", "Training steps done.", static_cast<double>(status.step));
    gauges.set("training_steps_wanted", "train.steps.", static_cast<double>(status.total));
    gauges.set("flossing_steps", "Flossing steps done.", static_cast<double>(status.floss_step));
    if (status.seconds_left >= 0.0)
        gauges.set("seconds_left", "Estimated time of the remaining training steps.", status.seconds_left);
    gauges.set("record_step", "Training step of the newest training record, to which the values belong.", training,
               "step");
    gauges.set("loss", "Loss of a batch, nats.", training, "loss");
    gauges.set("accuracy", "Accuracy of a batch, fraction.", training, "accuracy");
    gauges.set("running_accuracy", "Exponential mean of the accuracy.", training, "running_accuracy");
    gauges.set("test_loss", "Loss on test data, at the newest test.", records.test(), "test_loss");
    gauges.set("test_accuracy", "Accuracy on test data, at the newest test.", records.test(), "test_accuracy");
    gauges.set("validation_loss", "Loss on validation data, at the newest evaluation.", records.validation(),
               "validation_loss");
    gauges.set("validation_accuracy", "Accuracy on validation data, at the newest evaluation.", records.validation(),
               "validation_accuracy");
    gauges.set("floss_loss", "Penalty of the newest flossing step.", flossing.is_null() ? training : flossing,
               "floss_loss");
    for (const auto& [kind, line] : {std::pair("training", &training), std::pair("flossing", &flossing)}) {
        gauges.set("gradient_norm", "Norm of the gradient of what the step changes, before clipping.", *line,
                   "gradient_norm", {{"kind", kind}});
        gauges.set("rate", "Spikes per neuron and step.", *line, "rate", {{"kind", kind}});
        gauges.set("sequences_per_second", "Sequences trained or flossed per second.", *line, "sequences_per_second",
                   {{"kind", kind}});
        gauges.exponents(*line, kind);
    }
    gauges.exponents(diagnosis, "diagnostics");
    gauges.set("kaplan_yorke_dimension", "From the newest record of diagnostics.", diagnosis, "kaplan_yorke_dimension");
    gauges.set("entropy_rate", "Sum of the positive exponents, nats per step.", diagnosis, "entropy_rate");
    const bool newer = !flossing.is_null() && (training.is_null() || flossing["seconds"] > training["seconds"]);
    gauges.set("seconds", "Time since the start of training, over all sessions.", newer ? flossing : training,
               "seconds");
    return gauges.text();
}

}  // namespace spikefloss
