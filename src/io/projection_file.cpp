#include "io/projection_file.hpp"

#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>

namespace spikefloss {
namespace {

// "exc_inh/" -> "/exc_inh"; "/" -> "".
std::string absolute(std::string group) {
    while (group.ends_with('/')) group.pop_back();
    return group.empty() || group.starts_with('/') ? group : "/" + group;
}

InputFile opened(const std::string& path, const std::string& group) {
    InputFile file(path);
    choose_order(file, group.empty() ? "/" : group, false);
    return file;
}

}  // namespace

StoredWeights read_storage(const InputFile& file, std::string group, const ProjectionEnds& ends, bool pattern_alone) {
    const std::string shown = group.empty() ? "/" : group;
    if (!file.has(shown))
        file.fail(fmt::format("{} is missing", shown),
                  fmt::format("the file has {}", fmt::join(file.members("/"), ", ")));
    const bool is_matrix = !group.empty() && file.holds_numbers(group);
    const std::string matrix = is_matrix ? group : group + "/weights";
    const char* part = pattern_alone ? "indptr" : "data";
    const bool weights = file.has(matrix), sparse = file.has(fmt::format("{}/{}", group, part));
    if (weights == sparse)
        file.fail(
            fmt::format("{} has {} weights {} {}", shown, weights ? "both" : "neither", weights ? "and" : "nor", part),
            fmt::format("a dense projection has weights [post, pre]; a sparse one has indptr, indices and {}data",
                        pattern_alone ? "optional " : ""));
    const std::string sizes =
        fmt::format("population {} has {} neurons and {} has {}", ends.target, ends.targets, ends.source, ends.sources);
    if (weights) {
        file.require_shape(matrix, {ends.targets, ends.sources}, "[post, pre]", sizes);
        return {group, matrix, false, ends.targets * ends.sources};
    }
    file.require_shape(group + "/indptr", {ends.targets + 1}, "[post + 1]",
                       fmt::format("population {} has {} neurons", ends.target, ends.targets));
    const bool valued = file.has(group + "/data");
    const std::string counted = group + (valued ? "/data" : "/indices");
    const std::vector<Index> dims = file.shape(counted, 1);
    if (dims.size() != 1)
        file.fail(fmt::format("{} has shape {} but must be [nnz]", counted, shape_text(dims)),
                  "indptr, indices and data are those of scipy.sparse.csr_matrix");
    if (valued)
        file.require_shape(group + "/indices", dims, "[nnz]", fmt::format("{} has {} numbers", counted, dims[0]));
    return {group, valued ? counted : "", true, dims[0]};
}

Synapses read_rows(const InputFile& file, const StoredWeights& stored, const ProjectionEnds& ends, Index first,
                   Index rows) {
    Synapses own;
    if (rows <= 0) return own;
    const std::string &group = stored.group, column_name = group + "/indices";
    own.row_begin = file.read<std::int64_t>(group + "/indptr", {first}, {rows + 1});
    const auto fail_pointer = [&](Index at, const std::string& why) {
        file.fail(
            fmt::format("{}/indptr[{}] is {} {}", group, first + at, own.row_begin[static_cast<std::size_t>(at)], why),
            "indptr is that of scipy.sparse.csr_matrix: the first entry of each row, and their number at the end");
    };
    if (first == 0 && own.row_begin.front() != 0) fail_pointer(0, "but must be 0");
    for (Index r = 0; r < rows; ++r) {
        const Index begin = own.row_begin[static_cast<std::size_t>(r)],
                    end = own.row_begin[static_cast<std::size_t>(r + 1)];
        if (begin < 0 || end < begin) fail_pointer(r + 1, "but must not be less than the number before it");
        if (end > stored.synapses) fail_pointer(r + 1, fmt::format("but there are {} entries", stored.synapses));
    }
    if (first + rows == ends.targets && own.row_begin.back() != stored.synapses)
        fail_pointer(rows, fmt::format("but must be {}, the number of entries", stored.synapses));
    own.first = own.row_begin.front();
    const Index count = own.row_begin.back() - own.first;
    file.require_room(column_name, {count}, sizeof(std::int32_t));
    own.column = file.read<std::int32_t>(column_name, {own.first}, {count});
    for (Index& begin : own.row_begin) begin -= own.first;
    for (Index r = 0; r < rows; ++r)
        for (Index e = own.row_begin[static_cast<std::size_t>(r)]; e < own.row_begin[static_cast<std::size_t>(r + 1)];
             ++e) {
            const Index column = own.column[static_cast<std::size_t>(e)];
            if (column < 0 || column >= ends.sources)
                file.fail(fmt::format("{}[{}] is {} but must be 0 to {}", column_name, own.first + e, column,
                                      ends.sources - 1),
                          "a column is a neuron of the source, counted from 0");
            if (e > own.row_begin[static_cast<std::size_t>(r)] && column <= own.column[static_cast<std::size_t>(e - 1)])
                file.fail(fmt::format("{}[{}] is {}, which does not rise within row {}", column_name, own.first + e,
                                      column, first + r),
                          "sort the rows and join equal entries: W.sum_duplicates() of scipy.sparse");
        }
    return own;
}

GivenSynapses given_synapses(const std::string& path, const std::string& name, const ProjectionEnds& ends) {
    const std::string group = absolute(name);
    const StoredWeights stored = read_storage(opened(path, group), group, ends, true);
    GivenSynapses given;
    given.sparse = stored.sparse;
    given.count = stored.synapses;
    given.rows = [=](Index first, Index rows) { return read_rows(opened(path, group), stored, ends, first, rows); };
    if (stored.values.empty()) return given;
    given.weights = [=](Index first, Index count) {
        const InputFile file = opened(path, group);
        file.require_room(stored.values, {count}, sizeof(float));
        const auto values = stored.sparse ? file.read<float>(stored.values, {first}, {count})
                                          : file.read<float>(stored.values, {first / ends.sources, 0},
                                                             {count / ends.sources, ends.sources});
        if (const auto fault = against_sign(ends.sign, stored.values, values.data(), first, count))
            file.fail(fault->problem, fault->suggestion);
        return values;
    };
    return given;
}

std::vector<std::string> datasets_of_projection(const std::string& name) {
    const std::string group = absolute(name);
    std::vector<std::string> datasets;
    for (const char* part : {"", "/weights", "/indptr", "/indices", "/data"})
        if (!group.empty() || *part) datasets.push_back(group + part);
    return datasets;
}

void choose_order(InputFile& file, const std::string& group, bool transposed) {
    if (transposed) file.reverse_axes();
    for (const std::string& object : {group, std::string("/network")}) {
        if (!file.has_attribute(object, "layout")) continue;
        const std::string layout = word_attribute(file, object, "layout");
        if (layout != "row_major" && layout != "column_major")
            file.fail(
                fmt::format("attribute layout of {} is '{}' but must be 'row_major' or 'column_major'", object, layout),
                "column_major: the axes of all arrays are reversed, as Julia, MATLAB and R write them");
        if (layout == "column_major") file.reverse_axes();
        return;
    }
}

std::string word_attribute(const InputFile& file, const std::string& object, const std::string& name) {
    std::string text = file.string_attribute(object, name);
    if (text.size() > 64 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }))
        file.fail(fmt::format("attribute {} of {} is not a word but {} other bytes", name, object, text.size()),
                  "docs/files.md lists the allowed words; a damaged file may have such bytes, too");
    return text;
}

}  // namespace spikefloss
