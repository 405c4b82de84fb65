// Puts the page together.
#include "watching/page.hpp"

#include "watching/page_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace spikefloss {
namespace {

// One of these is near the beginning of every page, and of no other HTML file.
constexpr const char* page_marks[] = {"<meta name=\"generator\" content=\"spikefloss report\">",
                                      "<title>spikefloss</title>"};  // the latter before version 0.2

void put(std::string& page, const char* mark, const std::string& text) {
    const std::size_t at = page.find(mark);
    if (at == std::string::npos) throw std::logic_error(std::string("page.html has no ") + mark);
    page.replace(at, std::strlen(mark), text);
}

// A hash as the policy writes it: base64 of its 32 bytes.
std::string source_of(const std::string& hex) {
    constexpr const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text = "'sha256-";
    // 3 bytes (6 hex digits) become 4 digits; the last 2 bytes become 3 digits and an equals sign.
    for (std::size_t at = 0; at < hex.size(); at += 6) {
        std::string group = hex.substr(at, 6);
        const std::size_t bytes = group.size() / 2;
        group.resize(6, '0');
        const unsigned long value = std::stoul(group, nullptr, 16);
        for (std::size_t i = 0; i <= 3; ++i) text += i <= bytes ? digits[value >> (18 - 6 * i) & 63] : '=';
    }
    return text + "'";
}

}  // namespace

bool has_charts() { return *chart_js != '\0'; }

bool is_page(const std::string& path) {
    std::string beginning(2048, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
    return std::any_of(std::begin(page_marks), std::end(page_marks),
                       [&](const char* mark) { return beginning.find(mark) != std::string::npos; });
}

std::string safe_in_script(const std::string& json) {
    std::string safe;
    safe.reserve(json.size());
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (c == '<' || c == '>' || c == '&') {
            safe += c == '<' ? "\\u003c" : c == '>' ? "\\u003e" : "\\u0026";
        } else if (json.compare(i, 2, "\xe2\x80") == 0 && i + 2 < json.size() &&
                   (json[i + 2] == '\xa8' || json[i + 2] == '\xa9')) {  // U+2028, U+2029: ends of lines in JavaScript
            safe += json[i + 2] == '\xa8' ? "\\u2028" : "\\u2029";
            i += 2;
        } else {
            safe += c;
        }
    }
    return safe;
}

std::string page_policy() {
    return fmt::format(
        "default-src 'none'; script-src {} {}; style-src {} {}; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        source_of(chart_js_sha256), source_of(page_js_sha256), source_of(chart_css_sha256), source_of(page_css_sha256));
}

std::string page_text(const std::string& data) {
    std::string page = page_html;
    put(page, "/*policy*/", page_policy());
    put(page, "/*chart style*/", chart_css);
    put(page, "/*style*/", page_css);
    put(page, "/*charts*/", chart_js);
    put(page, "/*script*/", page_js);
    put(page, "/*data*/", safe_in_script(data));  // last, because it may have such marks itself
    return page;
}

}  // namespace spikefloss
