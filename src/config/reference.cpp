// The schema written out: a whole config as TOML, and docs/config.md.
#include "config/schema.hpp"

#include <fmt/ranges.h>

namespace spikefloss {
namespace {

// The allowed values, for readers: "zero, subtract, none", "at least 0"; "" if any value is allowed.
std::string allowed_text(const Key& key) {
    return key.choices.empty() ? range_text(key) : fmt::format("{}", fmt::join(key.choices, ", "));
}

// "an integer" -> "integer".
std::string column_type(const Key& key) {
    const std::string type = type_text(key);
    return type.starts_with("an ") ? type.substr(3) : type.starts_with("a ") ? type.substr(2) : type;
}

// Comment lines of at most 100 characters.
std::string as_comment(const std::string& text) {
    std::string lines;
    std::size_t begin = 0;
    while (begin < text.size()) {
        std::size_t end = text.size();
        if (end - begin > 98) end = text.rfind(' ', begin + 98);
        lines += "# " + text.substr(begin, end - begin) + "\n";
        begin = end + 1;
    }
    return lines;
}

const char* introduction(const std::string& section) {
    if (section == "run") return "The run as a whole.";
    if (section == "network") return "The recurrent network and its random initial weights.";
    if (section == "task") return "The task. Each task uses the keys that name it, and the keys that name no task.";
    if (section == "train") return "Training on the task.";
    if (section == "flossing")
        return "Regularisation of the surrogate Lyapunov exponents, with an optimiser of its own.";
    if (section == "diagnostics") return "Records of training besides loss and accuracy.";
    if (section == "checkpoint") return "Checkpoints, from which a run continues after an interruption.";
    if (section == "metrics") return "Further formats of the records of a run.";
    if (section == "serve") return "A page that shows the run in progress, and numbers for Prometheus.";
    if (section == "watchdog") return "The limit of the time that ranks wait for each other.";
    return "Ranks, threads and backends; results depend on these only by rounding.";
}

}  // namespace

std::string to_toml(const Config& config, bool comments) {
    Config copy = config;
    std::string text, section;
    for (const Key& key : keys_of(copy)) {
        if (key.section != section) {
            text += (section.empty() ? "[" : "\n[") + key.section + "]\n";
            section = key.section;
        }
        if (comments) {
            const std::string allowed = allowed_text(key);
            text += as_comment(key.description + (allowed.empty() ? "" : " (" + allowed + ")"));
        }
        text += key.name + " = " + value_text(key) + "\n";
    }
    return text;
}

std::string config_reference() {
    std::string text =
        "# Configuration keys\n\n"
        "A run is described by one TOML file. Every key has a default, so a file holds only what differs from it.\n"
        "`spikefloss train CONFIG --set section.key=value` changes a key for one run, and `--print-config` prints all\n"
        "keys with the values they have. Times are in milliseconds; N is the number of neurons, D the size of the\n"
        "network's state, k a number of exponents. `configs/` has an example for each task.\n\n"
        "This page is generated from the program's own table of keys (`src/config/schema.cpp`).\n";
    Config defaults;
    std::string section;
    for (const Key& key : keys_of(defaults)) {
        if (key.section != section) {
            section = key.section;
            text += fmt::format(
                "\n## [{}]\n\n{}\n\n| key | type | default | allowed | meaning |\n"
                "|---|---|---|---|---|\n",
                section, introduction(section));
        }
        text += fmt::format("| `{}` | {} | `{}` | {} | {} |\n", key.name, column_type(key), value_text(key),
                            allowed_text(key), key.description);
    }
    return text;
}

}  // namespace spikefloss
