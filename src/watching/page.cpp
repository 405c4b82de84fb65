// Puts the page together.
#include "watching/page.hpp"

#include "watching/page_parts.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace spikefloss {
namespace {

// What every page holds near its beginning, and no page of others.
constexpr const char* page_marks[] = {"<meta name=\"generator\" content=\"spikefloss report\">",
                                      "<title>spikefloss</title>"};  // the latter before version 0.2

void put(std::string& page, const char* mark, const std::string& text) {
    const std::size_t at = page.find(mark);
    if (at == std::string::npos) throw std::logic_error(std::string("page.html has no ") + mark);
    page.replace(at, std::strlen(mark), text);
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

std::string page_text(const std::string& data) {
    // Nothing in the data may end the script that holds it.
    std::string safe;
    for (char c : data) {
        if (c == '<')
            safe += "\\u003c";
        else
            safe += c;
    }
    std::string page = page_html;
    put(page, "/*style*/", std::string(chart_css) + page_css);
    put(page, "/*charts*/", chart_js);
    put(page, "/*script*/", page_js);
    put(page, "/*data*/", safe);
    return page;
}

}  // namespace spikefloss
