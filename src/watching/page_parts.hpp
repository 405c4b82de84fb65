// Files that are compiled into the program (cmake/EmbedText.cmake).
#pragma once

namespace spikefloss {

extern const char* const page_html;
extern const char* const page_css;
extern const char* const page_js;
extern const char* const chart_css;  // empty when the library was not found
extern const char* const chart_js;

// The SHA-256 of the same texts, in hex.
extern const char* const page_html_sha256;
extern const char* const page_css_sha256;
extern const char* const page_js_sha256;
extern const char* const chart_css_sha256;
extern const char* const chart_js_sha256;

}  // namespace spikefloss
