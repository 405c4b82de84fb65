// One key in words: its type, range and value as text, and the check of its value against range and choices.
#include "config/schema.hpp"

#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace spikefloss {
namespace {

// Visitors for the alternatives of ConfigValue.
template <class... Ts>
struct Overload : Ts... {
    using Ts::operator()...;
};
template <class... Ts>
Overload(Ts...) -> Overload<Ts...>;

std::string to_text(bool value) { return value ? "true" : "false"; }
std::string to_text(std::int64_t value) { return fmt::format("{}", value); }

// fmt's "{}" is the shortest text that reads back as the same double; a TOML float needs a point or an exponent.
std::string to_text(double value) {
    std::string text = fmt::format("{}", value);
    if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
    return text;
}

std::string to_text(const std::string& value) {
    std::string text = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') {
            text += {'\\', c};
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            text += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
        } else {
            text += c;
        }
    }
    return text + '"';
}

template <HasNames Choice>
std::string to_text(Choice value) {
    return to_text(std::string(name_of(value)));
}

std::string to_text(const TrainedName& value) { return to_text(name_of(value)); }

template <class T>
std::string to_text(const std::vector<T>& values) {
    std::string text = "[";
    for (const T& value : values) text += (text.size() > 1 ? ", " : "") + to_text(value);
    return text + "]";
}

// The length of the UTF-8 character at `at`; 0 where there is none (RFC 3629: no overlong forms, no surrogates).
std::size_t character_length(const std::string& text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const unsigned first = byte(at), second = byte(at + 1);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xC2 && first < 0xE0   ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    for (std::size_t i = 1; i < length; ++i)
        if (byte(at + i) < 0x80 || byte(at + i) > 0xBF) return 0;
    const bool bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                     (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
    return bad ? 0 : length;
}

// The config is written as TOML, which is UTF-8. Other text could not be read back.
void check_utf8(const Key& key, const std::string& text, const std::string& where) {
    std::string shown;
    bool good = true;
    for (std::size_t at = 0, length; at < text.size(); at += std::max<std::size_t>(length, 1)) {
        length = character_length(text, at);
        good = good && length > 0;
        shown += length > 0 ? text.substr(at, length) : fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at]));
    }
    if (good) return;
    throw Error(Exit::usage, fmt::format("{}{} is not UTF-8: \"{}\"", where, key.path(), shown),
                "choose a name in UTF-8; a folder above may have any name when you go there and give a relative path");
}

// One end of a range, for people: 1000000 is 1e6. A number next to a shorter one is an open end, shown as the shorter.
std::string end_text(double end, double outside, const char* open) {
    const bool is_open = fmt::format("{}", outside).size() < fmt::format("{}", end).size();
    const double shown = is_open ? outside : end;
    std::string text = fmt::format("{:g}", shown);
    if (std::stod(text) != shown) text = fmt::format("{}", shown);
    for (const char* clutter : {"+0", "+"}) {
        if (const auto at = text.find(clutter); at != std::string::npos) text.erase(at, std::strlen(clutter));
    }
    return (is_open ? open : "") + text;
}

void check_number(const Key& key, double number, const std::string& text, const std::string& where) {
    if (number != 0.0 && std::fabs(number) < key.least) {
        throw Error(Exit::usage,
                    fmt::format("{}{} = {} is too near 0 for float32: its size must be at least {:.2g}{}", where,
                                key.path(), text, key.least, key.low <= 0.0 ? ", or 0" : ""),
                    fmt::format("{}: {}", key.path(), key.description));
    }
    if (number >= key.low && number <= key.high) return;  // false for nan as well
    const std::string range = range_text(key);
    throw Error(Exit::usage,
                fmt::format("{}{} = {} is out of range: it must be a number {}", where, key.path(), text, range),
                fmt::format("{}: {}", key.path(), key.description));
}

}  // namespace

std::string type_text(const Key& key) {
    return std::visit(Overload{[](bool*) { return "true or false"; }, [](std::int64_t*) { return "an integer"; },
                               [](double*) { return "a float"; }, [](std::string*) { return "a string"; },
                               [](std::vector<std::int64_t>*) { return "a list of integers"; },
                               [](std::vector<double>*) { return "a list of floats"; },
                               [](std::vector<TrainedName>*) { return "a list of strings"; },
                               [](HasNames auto*) { return "a string"; },
                               []<HasNames Choice>(std::vector<Choice>*) { return "a list of strings"; }},
                      key.value);
}

std::string range_text(const Key& key) {
    const bool from = key.low > -1e300, to = key.high < 1e300;
    return (from ? "from " + end_text(key.low, below(key.low), "above ") : "") + (from && to ? " " : "") +
           (to ? "to " + end_text(key.high, above(key.high), "below ") : "");
}

std::string value_text(const Key& key) {
    if (key.secret) return "\"\"";
    return std::visit([](const auto* value) { return to_text(*value); }, key.value);
}

void copy_value(const Key& to, const Key& from) {
    std::visit([&](auto* value) { *value = *std::get<decltype(value)>(from.value); }, to.value);
}

void refuse_choice(const Key& key, const std::string& name, const std::string& where) {
    check_utf8(key, name, where);
    const bool is_list = std::visit(
        Overload{[](auto*) { return false; }, []<HasNames Choice>(std::vector<Choice>*) { return true; }}, key.value);
    throw Error(Exit::usage, fmt::format("{}{} has no choice {}", where, key.path(), to_text(name)),
                fmt::format("choose from {}{}", fmt::join(key.choices, ", "), is_list ? "; [] is none of them" : ""));
}

void check_value(const Key& key, const std::string& where) {
    const auto check =
        Overload{[&](bool) {},
                 [&](HasNames auto) {},
                 [&](const TrainedName&) {},
                 [&](std::int64_t number) { check_number(key, static_cast<double>(number), to_text(number), where); },
                 [&](double number) { check_number(key, number, to_text(number), where); },
                 [&](const std::string& text) { check_utf8(key, text, where); }};
    std::visit(
        [&](const auto* value) {
            if constexpr (requires { value->size(); } && !std::is_same_v<decltype(value), const std::string*>) {
                for (const auto& element : *value) check(element);
            } else {
                check(*value);
            }
        },
        key.value);
}

}  // namespace spikefloss
