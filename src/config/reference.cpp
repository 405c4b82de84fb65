// The schema written out: a whole config as TOML, and docs/config.md.
#include "config/schema.hpp"

#include <fmt/ranges.h>

#include <algorithm>

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

// population.exc -> population
std::string kind_of(const std::string& section) { return section.substr(0, section.find('.')); }

std::string heading_of(const std::string& section) {
    const std::string kind = kind_of(section);
    return is_list_section(kind) ? fmt::format("[[{}]]", kind) : fmt::format("[{}]", kind);
}

const char* introduction(const std::string& section) {
    if (section == "run") return "The run as a whole.";
    if (section == "network") return "The recurrent network and its random initial weights.";
    if (section == population_section)
        return "A population of neurons. The section is there once for each; without it, the network is one "
               "population. "
               "A\nkey that it does not have has the value of [network]. `--set population.NAME.key=value` changes "
               "one.";
    if (section == projection_section)
        return "The synapses from one population, or from the input, to one population. The section is there once for "
               "each.\nA key that it does not have has the value of [network], if there is one.";
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
        if (!key.is_given()) continue;  // it follows [network], also after the text is read
        if (key.section != section || (key.given && key.name == "name")) {
            text += fmt::format("{}{}\n", section.empty() ? "" : "\n", heading_of(key.section));
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
    defaults.populations.emplace_back();
    defaults.projections.emplace_back();
    const std::vector<Key> keys = keys_of(defaults);
    std::string section;
    for (const Key& key : keys) {
        if (key.section != section) {
            section = key.section;
            text += fmt::format(
                "\n## {}\n\n{}\n\n| key | type | default | allowed | meaning |\n"
                "|---|---|---|---|---|\n",
                heading_of(section), introduction(kind_of(section)));
        }
        const bool inherited = key.given && std::any_of(keys.begin(), keys.end(), [&](const Key& other) {
                                   return other.section == "network" && other.name == key.name;
                               });
        text += fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name, column_type(key),
                            inherited ? "as in [network]" : fmt::format("`{}`", value_text(key)), allowed_text(key),
                            key.description);
    }
    return text;
}

}  // namespace spikefloss
