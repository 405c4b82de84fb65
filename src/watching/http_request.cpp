#include "watching/http_request.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace spikefloss {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
// A character of the name of a method or header.
bool is_token(char c) { return is_digit(c) || is_letter(c) || (c != '\0' && std::strchr("!#$%&'*+-.^_`|~", c)); }
bool is_visible(char c) { return c > ' ' && c < 127; }
// A character of a header's value: a space, a tab, or any other byte that is not a control character.
bool is_in_value(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= ' ' && c != 127); }

template <class Kind>
bool all(std::string_view text, Kind kind) {
    return std::all_of(text.begin(), text.end(), kind);
}

std::string lower(std::string_view text) {
    std::string small(text);
    for (char& c : small)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return small;
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// The status that refuses this line, or 200: METHOD SP TARGET SP HTTP/1.x. Since 1.1 a request must have a Host.
int take_request_line(std::string_view line, HttpRequest& request, bool& needs_host) {
    const auto first = line.find(' '), second = line.rfind(' ');
    const std::string_view method = line.substr(0, first);
    if (first == std::string_view::npos || method.empty() || !all(method, is_token)) return 400;
    if (method != "GET" && method != "HEAD") return 405;
    if (second == first) return 400;
    const std::string_view target = line.substr(first + 1, second - first - 1), version = line.substr(second + 1);
    if (target.empty() || target[0] != '/' || !all(target, is_visible)) return 400;
    if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || !is_digit(version[5]) || version[6] != '.' ||
        !is_digit(version[7]))
        return 400;
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return 505;
    needs_host = version == "HTTP/1.1";
    const auto mark = target.find('?');
    request.method = method;
    request.path = target.substr(0, mark);
    request.query = mark == std::string_view::npos ? "" : target.substr(mark + 1);
    return 200;
}

// The values of these headers; none before they have arrived.
struct Headers {
    std::optional<std::string> host, authorization;
};

int take_header(std::string_view line, Headers& headers) {
    const auto colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    // A continuation line begins with a space, which no name has.
    if (colon == std::string_view::npos || name.empty() || !all(name, is_token) ||
        !all(line.substr(colon + 1), is_in_value))
        return 400;
    const std::string known = lower(name);
    std::optional<std::string>* const place = known == "host"            ? &headers.host
                                              : known == "authorization" ? &headers.authorization
                                                                         : nullptr;
    if (!place) return 200;
    if (*place) return 400;  // two of them are ambiguous
    *place = trimmed(line.substr(colon + 1));
    return 200;
}

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string decoded(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
        const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
        if (text[i] == '%' && high >= 0 && low >= 0) {
            plain += static_cast<char>(16 * high + low);
            i += 2;
        } else {
            plain += text[i] == '+' ? ' ' : text[i];
        }
    }
    return plain;
}

bool is_port(std::string_view text) {
    if (text.empty() || text.size() > 5 || !all(text, is_digit)) return false;
    int port = 0;
    for (const char c : text) port = 10 * port + (c - '0');
    return port > 0 && port < 65536;
}

}  // namespace

ParsedRequest parse_request(std::string_view bytes) {
    ParsedRequest parsed;
    Headers headers;
    const std::string_view seen = bytes.substr(0, most_request_bytes);
    bool first = true, needs_host = false;
    for (std::size_t begin = 0;;) {
        const std::size_t end = seen.find('\n', begin);
        if (end == std::string_view::npos) break;
        // Programs differ in how they read a line feed or a carriage return alone.
        if (end == begin || seen[end - 1] != '\r') return {400, {}};
        const std::string_view line = seen.substr(begin, end - 1 - begin);
        if (line.empty() && !first) {
            if (needs_host && !headers.host) return {400, {}};
            parsed.request.host = headers.host.value_or("");
            parsed.request.authorization = headers.authorization.value_or("");
            parsed.status = 200;
            return parsed;
        }
        const int status = first ? take_request_line(line, parsed.request, needs_host) : take_header(line, headers);
        if (status != 200) return {status, {}};
        first = false;
        begin = end + 1;
    }
    return {bytes.size() >= most_request_bytes ? 431 : 0, {}};
}

std::string query_value(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        const std::string_view part = query.substr(0, query.find('&'));
        const auto equals = part.find('=');
        if (equals != std::string_view::npos && decoded(part.substr(0, equals)) == name)
            return decoded(part.substr(equals + 1));
        query.remove_prefix(std::min(query.size(), part.size() + 1));
    }
    return "";
}

bool is_local_host(std::string_view host) {
    std::string_view name = host, rest;
    if (!host.empty() && host[0] == '[') {
        const auto end = host.find(']');
        if (end == std::string_view::npos) return false;
        name = host.substr(0, end + 1), rest = host.substr(end + 1);
    } else if (const auto colon = host.find(':'); colon != std::string_view::npos) {
        name = host.substr(0, colon), rest = host.substr(colon);
    }
    if (!rest.empty() && (rest[0] != ':' || !is_port(rest.substr(1)))) return false;
    if (name == "[::1]" || lower(name) == "localhost") return true;
    in_addr address{};
    return inet_pton(AF_INET, std::string(name).c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

bool same_secret(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    unsigned char difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
    return difference == 0;
}

}  // namespace spikefloss
