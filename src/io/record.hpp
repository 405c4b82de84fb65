// Reads files of a run directory. Any program may have changed them, so the type of each field is checked. The results
// have only known fields of known types, and no text except that of session.json.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string_view>

namespace spikefloss {

enum class RecordKind { metrics, diagnostics };

// A line of metrics.jsonl or diagnostics.jsonl (docs/diagnostics.md); none for a line that is no JSON, lacks a field or
// has one of another type. A number that was not finite is null.
std::optional<nlohmann::ordered_json> read_record(std::string_view line, RecordKind kind);

// raster.json: every neuron shown has its steps, each of them in the sequence. None for anything else.
std::optional<nlohmann::ordered_json> read_raster(std::string_view text);
// confusion.json: as many rows as columns, and names for all classes or none. None for anything else.
std::optional<nlohmann::ordered_json> read_confusion(std::string_view text);

// session.json: grid, threads, backend, ranks and so on. None for anything else.
std::optional<nlohmann::ordered_json> read_session(std::string_view text);

}  // namespace spikefloss
