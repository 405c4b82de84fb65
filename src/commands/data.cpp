// `data`: what is in a file of sequences, as text and as a page with pictures.
#include "commands/commands.hpp"
#include "commands/data_summary.hpp"
#include "core/whole_file.hpp"
#include "io/file_probe.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace spikefloss {
namespace {

constexpr Index most_without_labels = 4;  // sequences that are shown
constexpr std::size_t most_lines = 50;    // classes or groups that are printed
const std::string group_name = "extra/speaker";

DataSummary::Range range_of(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return {values.front(), values[values.size() / 2], values.back()};
}

// The name of a class or a group, or its number if it has none.
std::string name_in(const std::vector<std::string>& names, std::int64_t number) {
    const bool named = number >= 0 && number < static_cast<std::int64_t>(names.size());
    return named ? names[static_cast<std::size_t>(number)] : fmt::format("{}", number);
}

void count_classes(const SequenceFile& file, DataSummary& summary) {
    const std::vector<std::string> names = file.names("extra/keys");
    for (Index c = 0; c < summary.outputs; ++c) summary.classes.push_back({name_in(names, c)});
    for (Index i = 0; i < file.count(); ++i) {
        DataSummary::Class& mine = summary.classes[static_cast<std::size_t>(file.label(i))];
        if (mine.count++ == 0) mine.first = i;
    }
    std::string missing;
    Index count = 0;
    for (Index c = 0; c < summary.outputs; ++c)
        if (summary.classes[static_cast<std::size_t>(c)].count == 0 && ++count <= 10)
            missing += fmt::format("{}{}", missing.empty() ? "" : ", ", c);
    if (count > 0)
        summary.remarks.push_back(
            fmt::format("no sequence has label {}{}", missing, count > 10 ? fmt::format(" ({} in all)", count) : ""));
}

void count_groups(const SequenceFile& file, DataSummary& summary) {
    if (!file.contains(group_name)) return;
    std::map<std::int64_t, Index> counts;
    for (const std::int64_t group : file.groups(group_name)) ++counts[group];
    const std::vector<std::string> names = file.names(group_name + "_names");
    for (const auto& [group, count] : counts) {
        const std::string number = fmt::format("{}", group), name = name_in(names, group);
        summary.groups.emplace_back(name == number ? number : number + " " + name, count);
    }
}

// Four digits, but all digits before the point.
std::string number_text(double x) {
    return std::fabs(x) < 1000.0 ? fmt::format("{:.4g}", x) : fmt::format("{:.0f}", x);
}

std::string range_text(const DataSummary::Range& range, double unit, const char* of) {
    return fmt::format("{} to {} {}, median {}", number_text(range.least * unit), number_text(range.most * unit), of,
                       number_text(range.median * unit));
}

// "name count" in columns.
void print_counts(const std::vector<std::pair<std::string, Index>>& counts) {
    constexpr std::size_t columns = 5, width = 18;
    std::string line;
    for (std::size_t i = 0; i < std::min(counts.size(), most_lines); ++i) {
        const std::string cell = fmt::format("{}: {}", counts[i].first, counts[i].second);
        // The width in characters: a byte 10xxxxxx continues one.
        const auto shown = static_cast<std::size_t>(
            std::count_if(cell.begin(), cell.end(), [](char c) { return (c & 0xC0) != 0x80; }));
        line += cell + std::string(std::max<std::size_t>(2, width - std::min(width, shown)), ' ');
        if (i % columns == columns - 1 || i + 1 == std::min(counts.size(), most_lines)) {
            fmt::print("            {}\n", line.substr(0, line.find_last_not_of(' ') + 1));
            line.clear();
        }
    }
    if (counts.size() > most_lines) fmt::print("            and {} more\n", counts.size() - most_lines);
}

void print_summary(const DataSummary& s, double dt) {
    std::vector<double> rates = s.rates;
    const auto silent = std::count(rates.begin(), rates.end(), 0.0);
    const DataSummary::Range rate = range_of(rates);
    fmt::print("{}: {} sequences of {}, {} channels, {}\n", s.path, s.sequences, s.events ? "events" : "a dense x",
               s.channels, s.labels ? fmt::format("{} classes", s.outputs) : fmt::format("a target of {}", s.outputs));
    fmt::print("length      {}\n", range_text(s.steps, s.events ? dt : 1.0, s.events ? "ms" : "steps"));
    fmt::print("{}{}\n", s.events ? "events      " : "sum of x    ", range_text(s.size, 1.0, "a sequence"));
    fmt::print("channels    {}; silent: {}\n", range_text(rate, 1.0, s.events ? "events per second" : "mean of x"),
               silent);
    std::vector<std::pair<std::string, Index>> counts;
    for (std::size_t c = 0; s.labels && c < s.classes.size(); ++c) {
        const std::string number = fmt::format("{}", c);
        const DataSummary::Class& one = s.classes[c];
        counts.emplace_back(one.name == number ? number : number + " " + one.name, one.count);
    }
    if (s.labels) fmt::print("classes\n");
    print_counts(counts);
    if (!s.groups.empty()) fmt::print("groups      {} of {}\n", s.groups.size(), group_name);
    print_counts(s.groups);
    for (const std::string& remark : s.remarks) fmt::print("warning: {}\n", remark);
}

}  // namespace

DataSummary summary_of(const SequenceFile& file, double dt) {
    DataSummary s;
    s.path = file.path(), s.events = file.has_events(), s.labels = file.has_labels();
    s.sequences = file.count(), s.channels = file.channels(), s.outputs = file.outputs();
    s.remarks = file.remarks();
    s.rates.resize(static_cast<std::size_t>(s.channels));
    std::vector<double> steps, sizes;
    std::vector<float> x;
    double all = 0.0;
    for (Index i = 0; i < s.sequences; ++i) {
        steps.push_back(static_cast<double>(file.length(i)));
        all += steps.back();
        if (s.events) {
            const SequenceFile::Events e = file.events(i);
            sizes.push_back(static_cast<double>(e.count));
            for (Index k = 0; k < e.count; ++k) s.rates[e.channel[k]] += 1.0;
        } else {
            file.read_x(i, file.length(i), x);
            double sum = 0.0;
            for (std::size_t k = 0; k < x.size(); ++k) {
                sum += x[k];
                s.rates[k % s.rates.size()] += x[k];
            }
            sizes.push_back(sum);
        }
    }
    for (double& rate : s.rates) rate /= s.events ? all * dt / 1000.0 : all;
    s.steps = range_of(steps), s.size = range_of(sizes);
    if (s.labels)
        count_classes(file, s);
    else
        for (Index i = 0; i < std::min(most_without_labels, s.sequences); ++i)
            s.classes.push_back({fmt::format("sequence {}", i), 1, i});
    count_groups(file, s);
    return s;
}

int data(const ProcessGrid& everyone, const DataCommand& command) {
    require_readable(command.file, everyone);
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        if (!command.html.empty())
            require_may_write(
                {"--html", command.html, "a page of this command", {command.file}, is_data_page, command.overwrite});
        TaskSettings settings;
        settings.name = TaskKind::sequences, settings.file = command.file, settings.dt = command.dt;
        settings.time_unit = command.time_unit;
        const SequenceFile file(command.file, settings);
        const DataSummary summary = summary_of(file, command.dt);
        print_summary(summary, command.dt);
        if (command.html.empty()) return;
        write_whole_file(command.html, data_page(summary, file, command.dt));
        fmt::print("{}\n", command.html);
    });
    return 0;
}

}  // namespace spikefloss
