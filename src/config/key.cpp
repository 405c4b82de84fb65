// One key in words: its type, range and value as text, and the check of its value against range and choices.
#include "config/schema.hpp"

#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
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

// fmt's "{}" is the shortest text that reads back as the same double; TOML wants a point or an exponent in a float.
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

template <class T>
std::string to_text(const std::vector<T>& values) {
    std::string text = "[";
    for (const T& value : values) text += (text.size() > 1 ? ", " : "") + to_text(value);
    return text + "]";
}

// Numbers of a range are for people: 1e300 is no limit, and next to a shorter number stands for an open end.
bool open_end(double bound, double next) { return fmt::format("{}", next).size() < fmt::format("{}", bound).size(); }

std::string low_text(double low) {
    const double outside = below(low);
    return open_end(low, outside) ? fmt::format("greater than {}", outside)
                                  : fmt::format("at least {}", low);
}

std::string high_text(double high) {
    const double outside = above(high);
    return open_end(high, outside) ? fmt::format("less than {}", outside) : fmt::format("at most {}", high);
}

void check_number(const Key& key, double number, const std::string& text, const std::string& where) {
    if (number >= key.low && number <= key.high) return;  // false for nan as well
    const std::string range = range_text(key);
    throw Error(Exit::usage,
                fmt::format("{}{} = {} is out of range: it must be {}", where, key.path(), text,
                            range.empty() ? "a finite number" : range),
                fmt::format("{}: {}", key.path(), key.description));
}

void check_choice(const Key& key, const std::string& choice, const std::string& where) {
    const auto& choices = key.choices;
    if (choices.empty() || std::find(choices.begin(), choices.end(), choice) != choices.end()) return;
    throw Error(Exit::usage, fmt::format("{}{} has no choice {}", where, key.path(), to_text(choice)),
                fmt::format("choose from {}", fmt::join(choices, ", ")));
}

}  // namespace

std::string type_text(const Key& key) {
    return std::visit(Overload{[](bool*) { return "true or false"; }, [](std::int64_t*) { return "an integer"; },
                               [](double*) { return "a float"; }, [](std::string*) { return "a string"; },
                               [](std::vector<std::int64_t>*) { return "a list of integers"; },
                               [](std::vector<double>*) { return "a list of floats"; },
                               [](std::vector<std::string>*) { return "a list of strings"; }},
                      key.value);
}

std::string range_text(const Key& key) {
    const bool from = key.low > -1e300, to = key.high < 1e300;
    return (from ? low_text(key.low) : "") + (from && to ? " and " : "") + (to ? high_text(key.high) : "");
}

std::string value_text(const Key& key) {
    return std::visit([](const auto* value) { return to_text(*value); }, key.value);
}

void check_value(const Key& key, const std::string& where) {
    const auto check = Overload{
        [&](bool) {},
        [&](std::int64_t number) { check_number(key, static_cast<double>(number), to_text(number), where); },
        [&](double number) { check_number(key, number, to_text(number), where); },
        [&](const std::string& choice) { check_choice(key, choice, where); }};
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
