// Fills a Config from TOML text or from one --set argument. toml++ checks the syntax; this file checks that every name
// and type is one of the schema's.
#include "config/nearest.hpp"
#include "config/toml_depth.hpp"
#include "config/toml_node.hpp"
#include "core/error.hpp"
#include "core/part_name.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

namespace spikefloss {

std::string type_name(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::table: return "a section";
        case toml::node_type::array: return "a list";
        case toml::node_type::string: return "a string";
        case toml::node_type::integer: return "an integer";
        case toml::node_type::floating_point: return "a float";
        case toml::node_type::boolean: return "true or false";
        default: return "a date or time";
    }
}

namespace {

constexpr std::size_t most_text = std::size_t(1) << 24;  // bytes of a config or a sweep file

// The value of a scalar node, or nothing when it has another type. Integers are taken where floats are expected.
bool take(const toml::node& node, bool& target) {
    const auto value = node.value_exact<bool>();
    return value ? (target = *value, true) : false;
}

bool take(const toml::node& node, std::int64_t& target) {
    const auto value = node.value_exact<std::int64_t>();
    return value ? (target = *value, true) : false;
}

bool take(const toml::node& node, double& target) {
    if (const auto integer = node.value_exact<std::int64_t>()) return target = static_cast<double>(*integer), true;
    const auto value = node.value_exact<double>();
    return value ? (target = *value, true) : false;
}

bool take(const toml::node& node, std::string& target) {
    const auto value = node.value_exact<std::string>();
    return value ? (target = *value, true) : false;
}

template <HasNames Choice>
bool take(const toml::node& node, Choice& target) {
    const auto value = find_choice<Choice>(node.value_exact<std::string>().value_or(""));
    return value ? (target = *value, true) : false;
}

// projection.NAME
bool names_projection(const std::string& name) {
    return name.starts_with(trained_projection) && is_part_name(name.substr(std::strlen(trained_projection)));
}

bool take(const toml::node& node, TrainedName& target) {
    const std::string name = node.value_exact<std::string>().value_or("");
    target = {};
    if (!names_projection(name)) return take(node, target.parameter);
    target.projection = name.substr(std::strlen(trained_projection));
    return true;
}

template <class T>
bool take(const toml::node& node, std::vector<T>& target) {
    const toml::array* array = node.as_array();
    if (!array) return false;
    std::vector<T> values(array->size());
    for (std::size_t n = 0; n < values.size(); ++n) {
        if (!take(*array->get(n), values[n])) return false;
    }
    target = std::move(values);
    return true;
}

// Throws if the node, or an element of the list, is a text that is not among the key's choices.
void check_choices(const Key& key, const toml::node& node, const std::string& where) {
    const std::optional<std::string> name = node.value_exact<std::string>();
    if (name && std::holds_alternative<std::vector<TrainedName>*>(key.value) && names_projection(*name)) return;
    if (name && std::find(key.choices.begin(), key.choices.end(), *name) == key.choices.end())
        refuse_choice(key, *name, where);
    if (const toml::array* array = node.as_array())
        for (const toml::node& element : *array) check_choices(key, element, where);
}

}  // namespace

void assign(const Key& key, const toml::node& node, const std::string& where) {
    const auto takes = [&](const toml::node& value) {
        return std::visit([&](auto* target) { return take(value, *target); }, key.value);
    };
    if (!takes(node)) {
        const bool wants_list = type_text(key).starts_with("a list");
        if (!key.choices.empty() && (wants_list || !node.is_array())) check_choices(key, node, where);
        // An element in place of a list: the example is the list of it.
        if (wants_list && !node.is_array()) node.visit([&](const auto& element) { takes(toml::array{element}); });
        throw Error(
            Exit::usage,
            fmt::format("{}{} must be {}, not {}", where, key.path(), type_text(key),
                        node.is_array() && wants_list ? "a list of something else" : type_name(node)),
            fmt::format("write it like {} = {}. {}: {}", key.name, value_text(key), key.path(), key.description));
    }
    check_value(key, where);
    key.set_given();
}

std::string read_text_file(const std::string& path, const char* kind) {
    const auto unreadable = [&](const std::string& why) {
        return Error(Exit::usage, fmt::format("cannot read the {} file {}: {}", kind, path, why),
                     "check the path; the folder configs/ of the source has examples");
    };
    std::error_code failure;
    const auto status = std::filesystem::status(path, failure);
    if (failure && failure.value() != ENOENT && failure.value() != ENOTDIR) throw unreadable(failure.message());
    if (!std::filesystem::exists(status)) throw unreadable("there is no such file");
    if (std::filesystem::is_directory(status)) throw unreadable("it is a folder");
    // <(command) of a shell gives a FIFO that has a writer. With any other FIFO the program could wait without end.
    const bool from_shell = path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/") || path == "/dev/stdin";
    if (!std::filesystem::is_regular_file(status) && !from_shell)
        throw unreadable("it is a FIFO, a socket or a device, not a regular file");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw unreadable(std::strerror(errno));
    std::string text, piece(1 << 16, '\0');
    while (file && text.size() <= most_text) {
        file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
        text.append(piece, 0, static_cast<std::size_t>(file.gcount()));
    }
    if (file.bad()) throw unreadable("reading failed");
    if (text.size() > most_text) throw unreadable("it has more than 16 MB, too many for such a file");
    // UTF-16 has a byte order mark, or a 0 beside the first character, which is a letter or a bracket.
    const bool wide = text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff") ||
                      (text.size() > 1 && (text[0] == '\0') != (text[1] == '\0'));
    if (wide)
        throw Error(Exit::usage, fmt::format("cannot read the {} file {}: it is UTF-16 text, not UTF-8", kind, path),
                    "save it as UTF-8; in PowerShell write it by Out-File -Encoding utf8 in place of >");
    return text;
}

toml::table parse_toml(const std::string& text, const std::string& origin) {
    const int depth = toml_depth(text);
    require(depth <= most_toml_levels, Exit::usage,
            fmt::format("{}: keys, lists and tables nest {} levels deep, but at most {} are read", origin, depth,
                        most_toml_levels),
            "a config has [section] lines and key = value lines below them");
    try {
        return toml::parse(std::string_view(text), std::string_view(origin));
    } catch (const toml::parse_error& error) {
        const bool encoding = error.description().find("utf-8") != std::string_view::npos;
        throw Error(Exit::usage,
                    fmt::format("{}:{}:{}: not valid TOML: {}", origin, error.source().begin.line,
                                error.source().begin.column, error.description()),
                    encoding ? "save the file as UTF-8: a letter beyond ASCII is stored in another encoding"
                             : "a line is a [section], key = value, or a # comment; strings need quotes");
    }
}

namespace {

std::string text_of(const toml::table& table, const char* key) {
    return table[key].value_exact<std::string>().value_or("");
}

// Names a population or projection as its table does, so that messages can name it. Throws if what names it is missing.
void name_part(PopulationConfig& population, const toml::table& table, const std::string& where) {
    population.name = text_of(table, "name");
    require(!population.name.empty() || table.contains("name"), Exit::usage, where + "a [[population]] has no name",
            "write a line name = \"exc\" below it");
}

void name_part(ProjectionConfig& projection, const toml::table& table, const std::string& where) {
    for (const char* end : {"source", "target"})
        require(table.contains(end), Exit::usage, fmt::format("{}a [[projection]] has no {}", where, end),
                fmt::format("write a line {} = ... with the name of a population{} below it", end,
                            end[0] == 's' ? ", or \"input\"," : ""));
    projection.name = text_of(table, "name");
    if (projection.name.empty()) projection.name = text_of(table, "source") + "_" + text_of(table, "target");
}

// Appends what the tables [[section]] describe. known: all keys of the config, for messages.
template <class Part>
void read_parts(const toml::node& node, const std::string& section, const std::string& origin,
                const std::vector<Key>& known, std::vector<Part>& parts) {
    const auto not_tables = [&] {
        return Error(Exit::usage,
                     fmt::format("{}{} must be a list of sections", at_line(origin, node.source()), section),
                     fmt::format("write [[{}]] on a line of its own for each, and its keys below", section));
    };
    if (!node.is_array()) throw not_tables();
    for (const toml::node& element : *node.as_array()) {
        if (!element.is_table()) throw not_tables();
        const toml::table& table = *element.as_table();
        Part part;
        name_part(part, table, at_line(origin, element.source()));
        std::vector<Key> keys = keys_of(part);
        keys[0].set_given();  // the name
        const std::string own = keys[0].section;
        keys.insert(keys.end(), known.begin(), known.end());
        for (const auto& [name, value] : table) {
            const std::string line = at_line(origin, name.source());
            assign(find_key(keys, own, std::string(name.str()), line), value, line);
        }
        parts.push_back(std::move(part));
    }
}

}  // namespace

void read_config_text(const std::string& text, const std::string& origin, Config& config) {
    const toml::table document = parse_toml(text, origin);
    const std::vector<Key> keys = keys_of(config);
    std::vector<PopulationConfig> populations;
    std::vector<ProjectionConfig> projections;
    for (const auto& [name, node] : document) {
        const std::string where = at_line(origin, name.source());
        const std::string section(name.str());
        if (section == population_section) {
            read_parts(node, section, origin, keys, populations);
            continue;
        }
        if (section == projection_section) {
            read_parts(node, section, origin, keys, projections);
            continue;
        }
        const toml::table* table = node.as_table();
        if (!table) throw not_in_section(keys, section, where);
        check_section(keys, section, where);
        for (const auto& [key_name, value] : *table) {
            const std::string line = at_line(origin, key_name.source());
            assign(find_key(keys, section, std::string(key_name.str()), line), value, line);
        }
    }
    // `keys` points into these vectors.
    config.populations.insert(config.populations.end(), populations.begin(), populations.end());
    config.projections.insert(config.projections.end(), projections.begin(), projections.end());
}

void read_config(const std::string& path, Config& config) {
    read_config_text(read_text_file(path, "config"), path, config);
}

namespace {

// "value = text" as a document of exactly one value, or nothing.
std::optional<toml::table> parse_value(const std::string& text) {
    if (toml_depth(text) > most_toml_levels) return std::nullopt;
    try {
        toml::table document = toml::parse(std::string_view("value = " + text));
        if (document.size() == 1) return document;
    } catch (const toml::parse_error&) {
    }
    return std::nullopt;
}

std::string trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return "";
    return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

// "a, b" or "[a, b]" -> {"a", "b"}: a list of bare words.
toml::array bare_words(std::string text) {
    if (text.size() >= 2 && text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
    toml::array words;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        words.push_back(trimmed(std::string_view(text).substr(begin, end - begin)));
        begin = end + 1;
    }
    return words;
}

// The value of a key from text in TOML syntax, or from bare words for strings.
void assign_text(const Key& key, std::string text, const std::string& where) {
    const std::string type = type_text(key);
    if (type.starts_with("a list") && !text.starts_with('['))
        text = '[' + text + ']';  // one element, or several without brackets
    const auto document = parse_value(text);
    const toml::node* node = document ? document->get("value") : nullptr;
    // A bare word; also what TOML would take for a number, such as a folder named 2024.
    if (type == "a string" && !(node && node->is_string()) && !text.starts_with('"'))
        return assign(key, toml::value<std::string>(text), where);
    if (type == "a list of strings" && !node) return assign(key, bare_words(text), where);
    if (!node) {
        throw Error(
            Exit::usage,
            fmt::format("{}{} must be {}, not {}", where, key.path(), type_text(key), text.empty() ? "nothing" : text),
            fmt::format("{}: {}", key.path(), key.description));
    }
    assign(key, *node, where);
}

}  // namespace

bool is_token_assignment(const std::string& assignment) {
    return trimmed(std::string_view(assignment).substr(0, assignment.find('='))) == "serve.token";
}

void set_key(const std::string& assignment, Config& config) {
    const std::size_t equals = assignment.find('=');
    const std::string path = trimmed(std::string_view(assignment).substr(0, equals));
    // No message shows a token, even if the key is misspelled.
    const bool secret = path.find("tok") != std::string::npos && equals != std::string::npos;
    const std::string where = fmt::format("--set {}: ", secret ? path + "=..." : assignment);
    const std::size_t dot = path.rfind('.');  // population.exc.neurons
    if (equals == std::string::npos || dot == std::string::npos) {
        throw Error(Exit::usage, where + "not of the form section.key=value",
                    "write for example --set train.steps=500");
    }
    const std::vector<Key> keys = keys_of(config);
    const std::string section = path.substr(0, dot);
    check_section(keys, section, where);
    assign_text(find_key(keys, section, path.substr(dot + 1), where),
                trimmed(std::string_view(assignment).substr(equals + 1)), where);
}

void set_key_text(const std::string& path, const std::string& text, const std::string& where, Config& config) {
    const std::size_t dot = path.rfind('.');
    const std::vector<Key> keys = keys_of(config);
    assign_text(find_key(keys, path.substr(0, dot), path.substr(dot + 1), where), trimmed(text), where);
}

}  // namespace spikefloss
