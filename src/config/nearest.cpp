// The known name nearest to an unknown one: by edit distance with swaps, over all keys of all sections, so that a key
// in the wrong section is found as well. Two kinds of names count as near although many letters differ: initials (lr
// for learning_rate) and a known name with something added (batch_size for batch).
#include "config/nearest.hpp"

#include <fmt/ranges.h>

#include <algorithm>

namespace spikefloss {
namespace {

constexpr const char* all_keys = "docs/config.md lists all keys";

// Letters that are added, left out, replaced, or swapped with the next.
std::size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<std::vector<std::size_t>> of(a.size() + 1, std::vector<std::size_t>(b.size() + 1));  // first letters
    for (std::size_t i = 0; i <= a.size(); ++i)
        for (std::size_t j = 0; j <= b.size(); ++j) {
            if (i == 0 || j == 0) {
                of[i][j] = i + j;
                continue;
            }
            const std::size_t replaced = of[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            of[i][j] = std::min({of[i - 1][j] + 1, of[i][j - 1] + 1, replaced});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                of[i][j] = std::min(of[i][j], of[i - 2][j - 2] + 1);
        }
    return of[a.size()][b.size()];
}

std::string initials(const std::string& name) {
    std::string text(1, name[0]);
    for (std::size_t n = 1; n < name.size(); ++n) {
        if (name[n - 1] == '_') text += name[n];
    }
    return text;
}

std::size_t name_distance(const std::string& unknown, const std::string& known) {
    const std::size_t edits = edit_distance(unknown, known);
    if (edits > 0 && unknown.size() > 1 && unknown == initials(known)) return 1;
    if (unknown.starts_with(known + "_")) return std::min<std::size_t>(edits, 2);
    return edits;
}

// The remedy for an unknown key. A wrong section costs one edit; among equals the section with the most similar name
// wins.
std::string suggested_key(const std::vector<Key>& keys, const std::string& section, const std::string& name) {
    const auto distance = [&](const Key& key) {
        const std::size_t section_edits = edit_distance(section, key.section);
        return std::pair(name_distance(name, key.name) + (section_edits > 0 ? 1 : 0), section_edits);
    };
    const Key& nearest = *std::min_element(keys.begin(), keys.end(),
                                           [&](const Key& a, const Key& b) { return distance(a) < distance(b); });
    return is_near(name, nearest.name) ? fmt::format("did you mean {}? {}", nearest.path(), all_keys) : all_keys;
}

std::vector<std::string> sections_of(const std::vector<Key>& keys) {
    std::vector<std::string> sections;
    for (const Key& key : keys) {
        if (sections.empty() || sections.back() != key.section) sections.push_back(key.section);
    }
    return sections;
}

// The names of the populations or projections (kind) of a config.
std::vector<std::string> parts_of(const std::vector<Key>& keys, const std::string& kind) {
    std::vector<std::string> names;
    for (const std::string& section : sections_of(keys))
        if (section.starts_with(kind + ".")) names.push_back(section.substr(kind.size() + 1));
    return names;
}

// The kind of section that can be there several times and that `section` names or is in; "" for another section.
std::string list_kind(const std::string& section) {
    const std::string kind = section.substr(0, section.find('.'));
    return is_list_section(kind) ? kind : "";
}

// Keys of earlier versions, and options that are looked for among the keys. Neither can be found by spelling.
constexpr const char* of_grid =
    "the grid of ranks is an option of the command line: --grid 2x4 is 2 neuron shards and 4 "
    "batch shards";
constexpr std::pair<const char*, const char*> elsewhere[] = {
    {"parallel.timeout", "it is now called watchdog.seconds; docs/config.md lists all keys"},
    {"parallel.grid", of_grid},
    {"parallel.ranks", of_grid},
    {"parallel.shards", of_grid},
    {"parallel.neuron_shards", of_grid},
    {"parallel.batch_shards", of_grid}};

}  // namespace

std::string nearest_name(const std::string& unknown, const std::vector<std::string>& names) {
    return *std::min_element(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
        return name_distance(unknown, a) < name_distance(unknown, b);
    });
}

bool is_near(const std::string& unknown, const std::string& known) {
    const std::size_t distance = name_distance(unknown, known);
    return distance <= 1 || 2 * distance < unknown.size();
}

void check_section(const std::vector<Key>& keys, const std::string& section, const std::string& where) {
    const auto sections = sections_of(keys);
    if (std::find(sections.begin(), sections.end(), section) != sections.end()) return;
    if (const std::string kind = list_kind(section); !kind.empty()) {
        const std::vector<std::string> names = parts_of(keys, kind);
        const std::string unknown = section == kind ? "" : section.substr(kind.size() + 1);
        throw Error(Exit::usage,
                    unknown.empty() ? fmt::format("{}{} is not followed by the name of one", where, kind)
                                    : fmt::format("{}there is no {} {}", where, kind, unknown),
                    names.empty() ? fmt::format("the config has none; describe it in a section [[{}]]", kind)
                                  : fmt::format("did you mean {}.{}? The config has {}", kind,
                                                nearest_name(unknown, names), fmt::join(names, ", ")));
    }
    throw Error(Exit::usage, fmt::format("{}unknown section [{}]", where, section),
                fmt::format("did you mean [{}]? The sections are {}", nearest_name(section, sections),
                            fmt::join(sections, ", ")));
}

const Key& find_key(const std::vector<Key>& keys, const std::string& section, const std::string& name,
                    const std::string& where) {
    const auto found = std::find_if(keys.begin(), keys.end(),
                                    [&](const Key& key) { return key.section == section && key.name == name; });
    if (found != keys.end()) return *found;
    const std::string path = section + "." + name;
    for (const auto& [unknown, remedy] : elsewhere)
        if (path == unknown) throw Error(Exit::usage, fmt::format("{}unknown key {}", where, unknown), remedy);
    throw Error(Exit::usage, fmt::format("{}unknown key {}.{}", where, section, name),
                suggested_key(keys, section, name));
}

Error not_in_section(const std::vector<Key>& keys, const std::string& name, const std::string& where) {
    const auto sections = sections_of(keys);
    if (std::find(sections.begin(), sections.end(), name) != sections.end()) {
        return Error(Exit::usage, fmt::format("{}{} must be a section", where, name),
                     fmt::format("write [{}] on a line of its own, and its keys below", name));
    }
    for (const char* kind : {population_section, projection_section})
        if (edit_distance(name, kind) < 3)
            return Error(Exit::usage, fmt::format("{}unknown section [[{}]]", where, name),
                         fmt::format("did you mean [[{}]]?", kind));
    return Error(Exit::usage, fmt::format("{}the key {} is in no section", where, name), suggested_key(keys, "", name));
}

}  // namespace spikefloss
