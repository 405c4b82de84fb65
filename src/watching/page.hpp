// The page that shows a run: HTML with its style, its script, the chart library and the data, all in one text. The same
// page is a file (`spikefloss report`) or live (serve.port). A live page requests more data itself.
#pragma once

#include <string>

namespace spikefloss {

// Whether this build has the chart library; if not, the problem and the suggestion.
bool has_charts();
inline constexpr const char* why_no_charts = "this build has no charts: dygraphs was not found when it was configured";
inline constexpr const char* what_gives_charts =
    "install libjs-dygraphs (or set SPIKEFLOSS_DYGRAPHS to the folder of dygraph.min.js) and build again";

// Whether a file is such a page.
bool is_page(const std::string& path);

// data: a JSON object, from RunRecords::json.
std::string page_text(const std::string& data);
// The Content-Security-Policy of the page, which the page also contains. With it, a browser runs only the page's own
// scripts and styles, identified by their hashes, for any data.
std::string page_policy();

// JSON for an element <script> of a page: no character in it can end that element.
std::string safe_in_script(const std::string& json);

}  // namespace spikefloss
