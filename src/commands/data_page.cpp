// The page of `data`: HTML and SVG without scripts. Texts of the file are escaped.
#include "commands/data_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

namespace spikefloss {
namespace {

constexpr const char* mark = "<meta name=\"generator\" content=\"spikefloss data\">";
constexpr Index width = 1000, height = 360;  // of a picture, in its own units
constexpr Index most_dots = 6000;            // of a raster; above it, every second or third event is drawn, and so on
constexpr std::size_t most_classes = 100;

constexpr const char* head = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{} – spikefloss</title>
<style>
body {{ font: 15px system-ui, sans-serif; max-width: 72rem; margin: 1.5rem auto; padding: 0 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figure.wide {{ grid-column: 1 / -1; }}
figcaption {{ font-weight: 600; margin-bottom: .2rem; }}
svg {{ width: 100%; height: auto; border: 1px solid #8886; }}
.axis {{ display: flex; justify-content: space-between; font-size: 12px; opacity: .75; }}
.warning {{ color: #d9701e; }}
</style>
</head>
<body>
)";

std::string escaped(const std::string& text) {
    std::string safe;
    for (const char c : text) {
        if (c == '<' || c == '>' || c == '&' || c == '"')
            safe += fmt::format("&#{};", static_cast<int>(c));
        else
            safe += c;
    }
    return safe;
}

Index scaled(double part, double whole, Index size) {
    return std::clamp<Index>(std::llround(part / whole * static_cast<double>(size)), 0, size);
}

std::string figure(const std::string& title, const std::string& drawing, const std::string& left,
                   const std::string& right, const char* kind) {
    return fmt::format(
        "<figure{}><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">{}</svg>\n"
        "<div class=\"axis\"><span>{}</span><span>{}</span></div></figure>\n",
        kind, escaped(title), width, height, drawing, left, right);
}

// One dot for each event (channel upwards), or one for each number of x that is not 0, as opaque as it is large.
std::string raster(const SequenceFile& file, Index i, const DataSummary& summary) {
    const double T = summary.steps.most, C = static_cast<double>(summary.channels);
    const auto y = [&](double channel) { return height - scaled(channel + 0.5, C, height); };
    if (file.has_events()) {
        const SequenceFile::Events e = file.events(i);
        const Index every = e.count / (most_dots + 1) + 1;
        std::string path;
        for (Index k = 0; k < e.count; k += every)
            path += fmt::format("M{} {}h3", scaled(e.time[k], T, width), y(e.channel[k]));
        return fmt::format("<path d=\"{}\" stroke=\"currentColor\" stroke-width=\"2\"/>", path);
    }
    std::vector<float> x;
    file.read_x(i, file.length(i), x);
    std::vector<std::size_t> dots;
    float largest = 0.0f;
    for (std::size_t k = 0; k < x.size(); ++k) {
        if (x[k] != 0.0f) dots.push_back(k);
        largest = std::max(largest, std::fabs(x[k]));
    }
    const std::size_t every = dots.size() / (most_dots + 1) + 1, columns = summary.rates.size();
    std::string boxes;
    for (std::size_t k = 0; k < dots.size(); k += every) {
        const auto t = static_cast<double>(dots[k] / columns), c = static_cast<double>(dots[k] % columns);
        boxes +=
            fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" opacity=\"{:.2f}\"/>", scaled(t, T, width),
                        height - scaled(c + 1, C, height), std::max<Index>(2, static_cast<Index>(width / T)),
                        std::max<Index>(2, static_cast<Index>(height / C)), std::fabs(x[dots[k]]) / largest);
    }
    return "<g fill=\"currentColor\">" + boxes + "</g>";
}

std::string rates(const DataSummary& summary) {
    const double most = std::max(1e-300, *std::max_element(summary.rates.begin(), summary.rates.end()));
    std::string path = fmt::format("M0 {}", height);
    const auto count = static_cast<double>(summary.rates.size());
    for (std::size_t c = 0; c < summary.rates.size(); ++c) {
        const Index y = height - scaled(std::max(0.0, summary.rates[c]), most, height);
        path += fmt::format("V{}H{}", y, scaled(static_cast<double>(c + 1), count, width));
    }
    return fmt::format("<path d=\"{}V{}Z\" fill=\"currentColor\" opacity=\".6\"/>", path, height);
}

}  // namespace

bool is_data_page(const std::string& path) {
    std::string beginning(512, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
    return beginning.find(mark) != std::string::npos;
}

std::string data_page(const DataSummary& s, const SequenceFile& file, double dt) {
    const std::string name = s.path.substr(s.path.rfind('/') + 1);
    std::string page = fmt::format(fmt::runtime(head), mark, escaped(name));
    page += fmt::format("<h1>{}</h1>\n<p>{} sequences of {}, {} channels (0 at the bottom), {}{}</p>\n", escaped(name),
                        s.sequences, s.events ? "events" : "a dense x", s.channels,
                        s.labels ? fmt::format("{} classes", s.outputs) : fmt::format("a target of {}", s.outputs),
                        s.groups.empty() ? "" : fmt::format(", {} groups", s.groups.size()));
    for (const std::string& remark : s.remarks) page += fmt::format("<p class=\"warning\">{}</p>\n", escaped(remark));
    page += "<main>\n" + figure(fmt::format("Rate of each channel, up to {:.4g} {}",
                                            *std::max_element(s.rates.begin(), s.rates.end()),
                                            s.events ? "events per second" : "(mean of x)"),
                                rates(s), "channel 0", fmt::format("{}", s.channels - 1), " class=\"wide\"");
    const std::string end =
        s.events ? fmt::format("{:.4g} ms", s.steps.most * dt) : fmt::format("{:.0f} steps", s.steps.most);
    for (std::size_t c = 0; c < std::min(s.classes.size(), most_classes); ++c) {
        const DataSummary::Class& one = s.classes[c];
        if (one.first < 0) continue;
        const std::string title =
            s.labels ? fmt::format("{}: {} sequences, number {} of the file", one.name, one.count, one.first)
                     : one.name;
        page += figure(title, raster(file, one.first, s), "0", end, "");
    }
    return page + "</main>\n</body>\n</html>\n";
}

}  // namespace spikefloss
