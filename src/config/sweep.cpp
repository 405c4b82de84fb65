// Reads a sweep file. Every value goes through the schema of the config before it becomes an assignment. A value that a
// config refuses is therefore refused here, with the line of the sweep file.
#include "config/sweep.hpp"

#include "config/nearest.hpp"
#include "config/toml_node.hpp"
#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <numeric>
#include <type_traits>

namespace spikefloss {
namespace {

constexpr std::size_t most_points = 100'000;
constexpr std::size_t longest_name = 200;  // file systems take 255 bytes; the ending of a log needs some of them

const std::vector<std::string> top_level = {"base", "seeds", "success", "set", "values", "variants"};

template <class T>
std::string plain_text(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
        return value;
    } else if constexpr (requires { name_of(value); }) {
        return std::string(name_of(value));
    } else if constexpr (requires { value.size(); }) {
        std::string text;
        for (const auto& element : value) text += fmt::format("{}{}", text.empty() ? "" : "+", plain_text(element));
        return text.empty() ? "none" : text;
    } else {
        return fmt::format("{}", value);
    }
}

// A value as people write it: 14, flossed, before+every.
std::string plain_text(const Key& key) {
    return std::visit([](const auto* value) { return plain_text(*value); }, key.value);
}

// For the name of a folder: letters, digits and a few marks stay, any other byte becomes %2F.
std::string folder_text(const std::string& text) {
    std::string safe;
    for (const char c : text) {
        const bool plain =
            std::isalnum(static_cast<unsigned char>(c)) || std::string_view("._+-").find(c) != std::string::npos;
        safe += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return safe;
}

bool is_word(const std::string& text) {
    return !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
           std::all_of(text.begin(), text.end(),
                       [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

// Entries of a table in the order of the file (toml++ sorts them by name).
std::vector<std::pair<const toml::key*, const toml::node*>> in_order(const toml::table& table) {
    std::vector<std::pair<const toml::key*, const toml::node*>> entries;
    for (const auto& [name, node] : table) entries.emplace_back(&name, &node);
    const auto place = [](const toml::key& key) {
        return std::pair(key.source().begin.line, key.source().begin.column);
    };
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const auto& a, const auto& b) { return place(*a.first) < place(*b.first); });
    return entries;
}

class SweepReader {
public:
    SweepReader(const std::string& path, Sweep& sweep) : path_(path), sweep_(sweep) {}

    void read(const toml::table& document) {
        for (const auto& [name, node] : document) {
            const std::string known(name.str());
            if (std::find(top_level.begin(), top_level.end(), known) != top_level.end()) continue;
            throw Error(Exit::usage, fmt::format("{}unknown key {}", at(name), known),
                        fmt::format("did you mean {}? A sweep file has {}", nearest_name(known, top_level),
                                    fmt::join(top_level, ", ")));
        }
        const toml::node* base = document.get("base");
        const auto file = base ? base->value_exact<std::string>() : std::nullopt;
        require(file.has_value(), Exit::usage,
                base ? fmt::format("{}base must be a string, not {}", at(*base), type_name(*base))
                     : path_ + ": the key base is missing",
                "name the config that every run starts from, relative to the sweep file: base = \"../tiny.toml\"");
        sweep_.base_path = (std::filesystem::path(path_).parent_path() / *file).lexically_normal().string();
        read_config(sweep_.base_path, sweep_.base);
        scratch_ = sweep_.base;
        keys_ = keys_of(scratch_);
        if (const toml::node* node = document.get("success")) read_success(*node);
        if (const toml::node* node = document.get("set")) sweep_.common = assignments(*node, "set");
        if (const toml::node* node = document.get("values")) read_values(*node);
        if (const toml::node* node = document.get("variants")) read_variants(*node);
        read_seeds(document.get("seeds"));
    }

private:
    std::string at(const toml::node& node) const { return at_line(path_, node.source()); }
    std::string at(const toml::key& key) const { return at_line(path_, key.source()); }

    const toml::table& table_of(const toml::node& node, const std::string& name, const std::string& example) const {
        if (const toml::table* table = node.as_table()) return *table;
        throw Error(Exit::usage, fmt::format("{}{} must be a section, not {}", at(node), name, type_name(node)),
                    example);
    }

    // Calls function(key, key's node in the file, value) for each key of the config that a table of sections has.
    template <class Function>
    void for_each_key(const toml::node& node, const std::string& owner, Function&& function) {
        for (const auto& [section, keys] : table_of(
                 node, owner, fmt::format("write [{}] on a line of its own, and below it task.delay = ...", owner))) {
            const std::string name(section.str());
            const bool list = is_list_section(name);
            if (!keys.is_table() && list) check_section(keys_, name, at(section));  // throws
            if (!keys.is_table()) throw not_in_section(keys_, name, at(section));
            if (!list) {
                for_each_key_of(name, section, keys, owner, function);
                continue;
            }
            for (const auto& [part, its_keys] : *keys.as_table()) {  // population.exc
                const std::string path = name + "." + std::string(part.str());
                check_section(keys_, its_keys.is_table() ? path : name, at(part));
                for_each_key_of(path, part, its_keys, owner, function);
            }
        }
    }

    template <class Function>
    void for_each_key_of(const std::string& section, const toml::key& name, const toml::node& keys,
                         const std::string& owner, Function& function) {
        check_section(keys_, section, at(name));
        for (const auto& [key, value] : *keys.as_table()) {
            const Key& found = find_key(keys_, section, std::string(key.str()), at(key));
            check_free(found.path(), owner, at(key));
            function(found, key, value);
        }
    }

    // Throws for a key that the sweep itself sets, or that two places set.
    void check_free(const std::string& key, const std::string& owner, const std::string& where) {
        const std::map<std::string, const char*> own = {
            {"run.seed", "write seeds = [1, 2, 3], or seeds = {from = 1, to = 20}, at the top of the file"},
            {"run.directory", "every run has a directory of its own; spikefloss sweep --run-dir sets where they are"},
            {"serve.token", "keep it in the base config: names and records of a sweep would show it"}};
        if (const auto found = own.find(key); found != own.end())
            throw Error(Exit::usage, fmt::format("{}a sweep cannot set {}", where, key), found->second);
        const auto [before, is_new] = owners_.emplace(key, owner);
        // A variant overrides the value of [set].
        if (before->second == "set" && owner.starts_with("variants.")) before->second = owner;
        require(is_new || before->second == owner, Exit::usage,
                fmt::format("{}{} is set by [{}] and by [{}]", where, key, before->second, owner),
                "leave it in one of them: values of [values] are combined with every variant");
    }

    std::vector<std::string> assignments(const toml::node& node, const std::string& owner) {
        std::vector<std::string> list;
        for_each_key(node, owner, [&](const Key& key, const toml::key& name, const toml::node& value) {
            assign(key, value, at(name));
            list.push_back(key.path() + "=" + value_text(key));
        });
        return list;
    }

    const toml::array& list_of(const toml::node& node, const toml::key& name, const std::string& what,
                               const std::string& example) const {
        const toml::array* list = node.as_array();
        require(list && !list->empty(), Exit::usage,
                fmt::format("{}{} must be a list of values, not {}", at(name), what,
                            list ? "an empty one" : type_name(node)),
                example);
        return *list;
    }

    void add_choice(SweepAxis& axis, SweepAxis::Choice choice, const std::string& where) const {
        for (const SweepAxis::Choice& other : axis.choices)
            require(other.text != choice.text, Exit::usage,
                    fmt::format("{}{} has {} twice", where, axis.name, other.text),
                    "leave one of them out: each run has a directory of its own");
        axis.choices.push_back(std::move(choice));
    }

    void read_values(const toml::node& node) {
        std::vector<std::pair<std::ptrdiff_t, SweepAxis>> found;
        for_each_key(node, "values", [&](const Key& key, const toml::key& name, const toml::node& values) {
            SweepAxis axis{key.path(), {}};
            const std::string example = fmt::format("write it like {} = [{}]; one value for all runs belongs in [set]",
                                                    key.path(), value_text(key));
            for (const toml::node& value : list_of(values, name, key.path(), example)) {
                assign(key, value, at(value));
                add_choice(axis, {plain_text(key), {key.path() + "=" + value_text(key)}}, at(value));
            }
            found.emplace_back(&key - keys_.data(), std::move(axis));
        });
        std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        for (auto& [place, axis] : found) sweep_.axes.push_back(std::move(axis));
    }

    void read_variants(const toml::node& node) {
        const std::string example =
            "write [variants.method.flossed] on a line of its own, and its keys below: a group (method), one of its "
            "variants (flossed)";
        for (const auto& [group, variants] : table_of(node, "variants", example)) {
            const std::string name(group.str());
            const auto& taken = sweep_columns;
            require(is_word(name) && std::find(taken.begin(), taken.end(), name) == taken.end(), Exit::usage,
                    fmt::format("{}a group of variants cannot be named {}", at(group), name),
                    fmt::format("use letters, digits, _ and -, but none of the table's columns {}",
                                fmt::join(taken, ", ")));
            SweepAxis axis{name, {}};
            const std::string owner = "variants." + name;
            for (const auto& [variant, keys] : in_order(table_of(variants, owner, example))) {
                const std::string text(variant->str());
                require(keys->is_table(), Exit::usage,
                        fmt::format("{}{}.{} must be a section, not {}", at(*variant), owner, text, type_name(*keys)),
                        example);
                require(!text.empty(), Exit::usage, at(*variant) + "a variant has no name", example);
                add_choice(axis, {text, assignments(*keys, owner)}, at(*variant));
            }
            require(!axis.choices.empty(), Exit::usage, fmt::format("{}the group {} has no variants", at(group), name),
                    example);
            sweep_.axes.push_back(std::move(axis));
        }
    }

    void read_seeds(const toml::node* node) {
        const Key& key = find_key(keys_, "run", "seed", "");
        auto& seed = *std::get<std::int64_t*>(key.value);
        SweepAxis axis{"seed", {}};
        const auto add = [&](std::int64_t value, const std::string& where) {
            add_choice(axis, {fmt::format("{}", value), {fmt::format("run.seed={}", value)}}, where);
        };
        const std::string example = "write seeds = [1, 2, 3], or seeds = {from = 1, to = 20}";
        if (!node) {
            add(sweep_.base.run.seed, "");
        } else if (const toml::table* range = node->as_table()) {
            require(range->size() == 2 && range->contains("from") && range->contains("to"), Exit::usage,
                    at(*node) + "seeds has a range without from and to, or with more than these", example);
            const auto bound = [&](const char* name) {
                const toml::node& value = *range->get(name);
                assign(key, value, at(value));
                return seed;
            };
            const std::int64_t from = bound("from"), to = bound("to");
            require(from <= to && to - from < static_cast<std::int64_t>(most_points), Exit::usage,
                    fmt::format("{}the range of seeds from {} to {} is empty, or has more than {}", at(*node), from, to,
                                most_points),
                    example);
            for (std::int64_t value = from; value <= to; ++value)  // distinct as they are
                axis.choices.push_back({fmt::format("{}", value), {fmt::format("run.seed={}", value)}});
        } else {
            const toml::array* list = node->as_array();
            require(list && !list->empty(), Exit::usage,
                    fmt::format("{}seeds must be a list of integers or a range, not {}", at(*node),
                                list ? "an empty list" : type_name(*node)),
                    example);
            for (const toml::node& value : *list) {
                assign(key, value, at(value));
                add(seed, at(value));
            }
        }
        sweep_.axes.push_back(std::move(axis));
    }

    void read_success(const toml::node& node) {
        SweepSuccess& s = sweep_.success;
        const std::vector<Key> keys = {
            {"success",
             "accuracy",
             "mean accuracy, as a fraction, at which a run is a success",
             {},
             above(0),
             1,
             &s.accuracy},
            {"success", "reports", "number of last reports in that mean", {}, 1, 1e9, &s.reports}};
        for (const auto& [name, value] : table_of(node, "success", "write success = {accuracy = 0.95, reports = 10}")) {
            const std::string key(name.str());
            const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == key; });
            require(found != keys.end(), Exit::usage, fmt::format("{}unknown key success.{}", at(name), key),
                    fmt::format("did you mean success.{}? It has accuracy and reports",
                                nearest_name(key, {"accuracy", "reports"})));
            assign(*found, value, at(name));
        }
    }

    const std::string& path_;
    Sweep& sweep_;
    Config scratch_;                             // takes one value at a time
    std::vector<Key> keys_;                      // of scratch_
    std::map<std::string, std::string> owners_;  // what sets a key
};

// Entries of metrics.jsonl for training steps: every report_every-th, every test_every-th, and the last.
std::int64_t report_count(const TrainConfig& train) {
    std::int64_t count = train.steps / train.report_every;
    bool last = train.steps % train.report_every == 0;
    if (train.test_every > 0) {
        count += train.steps / train.test_every - train.steps / std::lcm(train.report_every, train.test_every);
        last = last || train.steps % train.test_every == 0;
    }
    return count + (last || train.steps == 0 ? 0 : 1);
}

void check_points(const Sweep& sweep, const std::string& path) {
    std::size_t count = 1, settings = 1;
    for (const SweepAxis& axis : sweep.axes) {
        settings = count;  // the seed is last
        count *= axis.choices.size();
        require(count <= most_points, Exit::usage, fmt::format("{} has more than {} runs", path, most_points),
                "leave out some values or seeds");
    }
    std::vector<SweepPoint> points = points_of(sweep);
    const auto longest = std::max_element(points.begin(), points.end(),
                                          [](const auto& a, const auto& b) { return a.name.size() < b.name.size(); });
    require(longest->name.size() <= longest_name, Exit::usage,
            fmt::format("{}: the name of a run has more than {} characters: {}", path, longest_name, longest->name),
            "set several keys by one variant, which has a short name: [variants.method.flossed]");
    points.resize(settings);  // a seed changes nothing here
    for (const SweepPoint& point : points) {
        try {
            const Config config = config_of(sweep, point);
            check_config(config);
            const std::int64_t reports = report_count(config.train);
            require(sweep.success.accuracy == 0.0 || has_accuracy(config.train.loss), Exit::usage,
                    fmt::format("success.accuracy = {}, but train.loss = {} has no accuracy", sweep.success.accuracy,
                                name_of(config.train.loss)),
                    "leave success out");
            require(sweep.success.accuracy == 0.0 || sweep.success.reports <= reports, Exit::usage,
                    fmt::format("success.reports = {} is more than the {} reports of the run (train.steps = {}, "
                                "train.report_every = {})",
                                sweep.success.reports, reports, config.train.steps, config.train.report_every),
                    "choose fewer, or report more often");
        } catch (const Error& error) {
            throw Error(error.code(), fmt::format("{}: {}: {}", path, point.name, error.what()));
        }
    }
}

}  // namespace

Sweep read_sweep_text(const std::string& text, const std::string& path) {
    Sweep sweep;
    sweep.name = std::filesystem::path(path).stem().string();
    SweepReader(path, sweep).read(parse_toml(text, path));
    check_points(sweep, path);
    return sweep;
}

Sweep read_sweep(const std::string& path) { return read_sweep_text(read_text_file(path, "sweep"), path); }

std::vector<SweepPoint> points_of(const Sweep& sweep) {
    std::vector<SweepPoint> points;
    std::vector<std::size_t> choice(sweep.axes.size(), 0);
    for (std::size_t turn = sweep.axes.size(); turn > 0;) {
        SweepPoint& point = points.emplace_back();
        point.assignments = sweep.common;
        for (std::size_t a = 0; a < sweep.axes.size(); ++a) {
            const SweepAxis::Choice& chosen = sweep.axes[a].choices[choice[a]];
            point.name += fmt::format("{}{}={}", a > 0 ? "," : "", sweep.axes[a].name, folder_text(chosen.text));
            point.values.push_back(chosen.text);
            point.assignments.insert(point.assignments.end(), chosen.assignments.begin(), chosen.assignments.end());
        }
        // The last axis but the seed turns fastest, the seed, which is last, slowest.
        for (turn = sweep.axes.size(); turn > 0; --turn) {
            const std::size_t a = turn == 1 ? sweep.axes.size() - 1 : turn - 2;
            if (++choice[a] < sweep.axes[a].choices.size()) break;
            choice[a] = 0;
        }
    }
    return points;
}

Config config_of(const Sweep& sweep, const SweepPoint& point) {
    Config config = sweep.base;
    for (const std::string& assignment : point.assignments) set_key(assignment, config);
    return config;
}

}  // namespace spikefloss
