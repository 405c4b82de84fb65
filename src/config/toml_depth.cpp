// The depth to which a TOML text nests, found before the parser reads it: the parser and its tree are recursive, so
// keys of 50 000 parts would overflow the stack. It takes one pass over the characters, and only distinguishes strings
// and comments from the rest. If the text is not valid TOML, the depth is right up to the first fault.
#include "config/toml_depth.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace spikefloss {
namespace {

// The position after the string that begins at `begin` with a quote. A string without an end extends to the end of its
// line or, with three quotes, of the text.
std::size_t after_string(std::string_view text, std::size_t begin) {
    const char quote = text[begin];
    const std::size_t size = text.size();
    const bool many_lines = text.substr(begin, 3) == std::string(3, quote);
    for (std::size_t at = begin + (many_lines ? 3 : 1); at < size; ++at) {
        if (text[at] == '\\' && quote == '"')
            ++at;
        else if (!many_lines && (text[at] == quote || text[at] == '\n'))
            return at + 1;
        else if (many_lines && text.substr(at, 3) == std::string(3, quote)) {
            at += 3;
            for (int more = 0; more < 2 && at < size && text[at] == quote; ++more) ++at;  // """a""""" ends with two
            return at;
        }
    }
    return size;
}

}  // namespace

int toml_depth(std::string_view text) {
    int deepest = 0, depth = 0;  // depth: of open brackets, and of the keys before them
    int dots = 0;                // of the present key or number
    std::vector<int> outside;    // the depth around each open bracket
    for (std::size_t at = 0; at < text.size();) {
        const char c = text[at];
        if (c == '"' || c == '\'') {
            at = after_string(text, at);
            continue;
        }
        ++at;
        if (c == '.') {
            deepest = std::max(deepest, depth + ++dots);
        } else if (c == '[' || c == '{') {
            outside.push_back(depth);
            depth += dots + 1;
            dots = 0;
            deepest = std::max(deepest, depth);
        } else if (c == ']' || c == '}') {
            if (!outside.empty()) {
                depth = outside.back();
                outside.pop_back();
            }
            dots = 0;
        } else if (c == ',' || (c == '\n' && outside.empty())) {
            dots = 0;
        } else if (c == '#') {
            at = std::min(text.find('\n', at), text.size());
        }
    }
    return deepest;
}

}  // namespace spikefloss
