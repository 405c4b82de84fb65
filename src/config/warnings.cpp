// Contradictions in a section that is off. The section is switched on in a copy of the config, and check_config checks
// the copy. A key at its default is not reported.
#include "config/schema.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// Compares secrets too, which value_text does not show.
bool same_value(const Key& a, const Key& b) {
    if (a.secret) return *std::get<std::string*>(a.value) == *std::get<std::string*>(b.value);
    return value_text(a) == value_text(b);
}

// So that the keys of both are at the same places.
void share_parts(const Config& from, Config& to) {
    to.populations = from.populations;
    to.projections = from.projections;
}

// The first contradiction in a config, without the suggestion; "" if there is none.
std::string problem_of(const Config& config) {
    try {
        check_config(config);
    } catch (const Error& error) {
        const std::string text = error.what();
        return text.substr(0, text.find('\n'));
    }
    return "";
}

// The contradictions of `section` in `config`, where it is on. harmless: the same section with values that fit any
// network and any task. A key is part of a contradiction if its harmless value removes or changes it. The key keeps
// that value, so that the next contradiction shows.
void collect(const std::string& section, const std::string& off, Config config, const Config& harmless,
             std::vector<std::string>& warnings) {
    Config defaults, fallback = harmless;
    share_parts(config, defaults);
    share_parts(config, fallback);
    const std::vector<Key> mine = keys_of(config), usual = keys_of(defaults), safe = keys_of(fallback);
    for (std::string problem; !(problem = problem_of(config)).empty();) {
        std::vector<std::size_t> parts;
        bool told = false;
        for (std::size_t i = 0; i < mine.size(); ++i) {
            if (mine[i].section != section || same_value(mine[i], safe[i])) continue;
            Config trial = config;
            copy_value(keys_of(trial)[i], safe[i]);
            if (problem_of(trial) == problem) continue;
            parts.push_back(i);
            told = told || !same_value(mine[i], usual[i]);
        }
        if (told) warnings.push_back(fmt::format("{}, but if it were on: {}", off, problem));
        if (parts.empty()) return;  // the fault is in another section
        for (const std::size_t i : parts) copy_value(mine[i], safe[i]);
    }
}

bool is_set(Config config, const std::string& prefix) {
    Config defaults;
    share_parts(config, defaults);
    const std::vector<Key> mine = keys_of(config), usual = keys_of(defaults);
    for (std::size_t i = 0; i < mine.size(); ++i)
        if (mine[i].path().rfind(prefix, 0) == 0 && !same_value(mine[i], usual[i])) return true;
    return false;
}

// Values that any network and task can have.
void make_harmless(Config& config) {
    config.flossing = {};
    config.flossing.exponents = config.diagnostics.exponents = 1;
    config.flossing.warmup = config.diagnostics.warmup = 0;
    config.serve.address = "127.0.0.1";
    config.serve.token = "";
}

// The schedules of the keys that are set.
std::vector<FlossingTime> schedules_meant(const FlossingConfig& f, bool adaptive) {
    std::vector<FlossingTime> schedule;
    if (f.before > 0) schedule.push_back(FlossingTime::before);
    if (!f.at.empty()) schedule.push_back(FlossingTime::at);
    if (f.weight > 0 || schedule.empty()) schedule.push_back(FlossingTime::every);
    if (adaptive) schedule.push_back(FlossingTime::adaptive);
    return schedule;
}

}  // namespace

std::vector<std::string> config_warnings(const Config& config) {
    Config harmless;
    make_harmless(harmless);
    // All sections are harmless except the one under test.
    Config base = config;
    make_harmless(base);
    base.diagnostics.every = 0;
    std::vector<std::string> warnings = adaptation_warnings(config);

    const bool adaptive = is_set(config, "flossing.adaptive_");
    const std::vector<FlossingTime>& schedule = config.flossing.schedule;
    if (schedule.empty() ||
        (adaptive && std::find(schedule.begin(), schedule.end(), FlossingTime::adaptive) == schedule.end())) {
        Config on = base;
        on.flossing = config.flossing;
        on.flossing.schedule = schedule.empty() ? schedules_meant(config.flossing, adaptive) : schedule;
        if (!schedule.empty()) on.flossing.schedule.push_back(FlossingTime::adaptive);
        Config safe = harmless;  // but with the schedules and what they need
        safe.flossing.schedule = on.flossing.schedule;
        safe.flossing.before = on.flossing.before;
        safe.flossing.weight = on.flossing.weight;
        if (!on.flossing.at.empty()) safe.flossing.at = {0};
        collect("flossing",
                schedule.empty() ? "flossing is off (flossing.schedule is empty)"
                                 : "adaptive flossing is off (flossing.schedule does not have \"adaptive\")",
                on, safe, warnings);
    }
    if (config.diagnostics.every == 0) {
        Config on = base;
        on.diagnostics = config.diagnostics;
        Config safe = harmless;
        on.diagnostics.every = safe.diagnostics.every = 1;
        collect("diagnostics", "diagnostics is off (diagnostics.every = 0)", on, safe, warnings);
    }
    if (config.serve.port == 0) {
        Config on = base;
        on.serve = config.serve;
        Config safe = harmless;
        on.serve.port = safe.serve.port = 1;
        collect("serve", "the live page is off (serve.port = 0)", on, safe, warnings);
    }
    // If k + 1 exponents are too many, flossing.exponents = k is D.
    Config one_more = config;
    one_more.flossing.exponents += 1;
    one_more.flossing.target = {0.0};
    if (!schedule.empty() && config.network.file.empty() && config.network.reset == Reset::zero &&
        (config.network.reset_delay == 1 || config.network.tau_syn > 0.0) && config.populations.empty() &&
        config.flossing.jacobian_reset == JacobianReset::detached &&
        problem_of(one_more).find("flossing.exponents") == 0)
        warnings.push_back(fmt::format(
            "flossing.exponents = {} covers all directions of the state, but a spike that resets its membrane to 0 "
            "takes one away: its exponent is -infinite, and flossing ends there with exit code 3",
            config.flossing.exponents));
    return warnings;
}

std::vector<std::string> config_warnings(const Config& config, std::int64_t neurons, bool has_current) {
    if (config.network.file.empty()) return config_warnings(config);
    Config known = config;
    known.network = {};
    known.network.dt = known.network.tau_mem = known.network.tau_out = config.network.dt;
    known.network.neurons = neurons;
    known.network.tau_syn = has_current ? config.network.dt : 0.0;
    return config_warnings(known);
}

}  // namespace spikefloss
