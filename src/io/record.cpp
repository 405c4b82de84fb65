#include "io/record.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

namespace spikefloss {
namespace {

using Json = nlohmann::ordered_json;

enum class Type { count, number, numbers, norms, kind, text, hosts };
enum class Need { always, training, never };  // training: in records of training steps

struct Field {
    const char* name;
    Type type;
    Need need = Need::always;
};

constexpr Field metrics_fields[] = {
    {"step", Type::count},
    {"floss_step", Type::count},
    {"kind", Type::kind},
    {"loss", Type::number, Need::training},
    {"accuracy", Type::number, Need::never},
    {"running_accuracy", Type::number, Need::never},
    {"gradient_norm", Type::number, Need::never},
    {"gradient_norms", Type::norms, Need::never},
    {"floss_loss", Type::number, Need::never},
    {"exponents", Type::numbers, Need::never},
    {"rate", Type::number, Need::never},
    {"rate_penalty", Type::number, Need::never},
    {"validation_loss", Type::number, Need::never},
    {"validation_accuracy", Type::number, Need::never},
    {"validation_r2", Type::number, Need::never},
    {"best_step", Type::count, Need::never},
    {"test_loss", Type::number, Need::never},
    {"test_accuracy", Type::number, Need::never},
    {"test_r2", Type::number, Need::never},
    {"seconds", Type::number},
    {"flossing_seconds", Type::number, Need::never},
    {"sequences_per_second", Type::number, Need::never},
    {"data_seconds_share", Type::number, Need::never},
};

constexpr Field diagnostics_fields[] = {
    {"step", Type::count},
    {"floss_step", Type::count},
    {"exponents", Type::numbers},
    {"kaplan_yorke_dimension", Type::number, Need::never},
    {"entropy_rate", Type::number, Need::never},
    {"state_gradient_norm_by_lag", Type::numbers, Need::never},
    {"rate", Type::number, Need::never},
    {"rate_by_population", Type::norms, Need::never},
    {"zero_share_by_projection", Type::norms, Need::never},
    {"loss", Type::number, Need::never},
    {"accuracy", Type::number, Need::never},
    {"gradient_norms", Type::norms, Need::never},
};

constexpr Field session_fields[] = {
    {"started", Type::text},
    {"version", Type::text, Need::never},
    {"build", Type::text, Need::never},
    {"grid", Type::text},
    {"threads", Type::count},
    {"backend", Type::text},
    {"precision", Type::text},
    {"communicator", Type::text},
    {"warning", Type::text, Need::never},
    {"ranks", Type::hosts},
};

bool is_number(const Json& value) { return value.is_number() || value.is_null(); }

// Up to 2^53, beyond which the doubles of a browser are not exact.
bool is_count(const Json& value, std::int64_t most = std::int64_t{1} << 53) {
    return value.is_number_integer() && value >= 0 && value <= most;
}

bool has_type(const Json& value, Type type) {
    switch (type) {
        case Type::count: return is_count(value);
        case Type::number: return is_number(value);
        case Type::numbers: return value.is_array() && std::all_of(value.begin(), value.end(), is_number);
        case Type::norms: return value.is_object() && std::all_of(value.begin(), value.end(), is_number);
        case Type::kind: return value == "training" || value == "flossing";
        case Type::text: return value.is_string();
        case Type::hosts:
            return value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), [](const Json& rank) {
                       return rank.is_object() && rank.contains("host") && rank["host"].is_string() &&
                              rank.contains("device") && rank["device"].is_string();
                   });
    }
    return false;
}

// Only these two fields: a copy of a value that is nested very deep would overflow the stack.
Json hosts_of(const Json& ranks) {
    Json hosts = Json::array();
    for (const Json& rank : ranks) hosts.push_back({{"host", rank["host"]}, {"device", rank["device"]}});
    return hosts;
}

// The fields of `json` that are in `fields`; none when one is missing or has another type.
std::optional<Json> typed(const Json& json, std::span<const Field> fields) {
    if (!json.is_object()) return std::nullopt;
    Json kept;
    for (const Field& field : fields) {
        const auto found = json.find(field.name);
        if (found != json.end()) {
            if (!has_type(*found, field.type)) return std::nullopt;
            kept[field.name] = field.type == Type::hosts ? hosts_of(*found) : *found;
        } else if (field.need == Need::always || (field.need == Need::training && kept["kind"] == "training")) {
            return std::nullopt;
        }
    }
    return kept;
}

Json parsed(std::string_view text) { return Json::parse(text, nullptr, false); }

}  // namespace

std::optional<Json> read_record(std::string_view line, RecordKind kind) {
    return kind == RecordKind::metrics ? typed(parsed(line), metrics_fields) : typed(parsed(line), diagnostics_fields);
}

std::optional<Json> read_raster(std::string_view text) {
    constexpr Field sizes[] = {
        {"step", Type::count}, {"floss_step", Type::count}, {"neurons", Type::count}, {"steps", Type::count}};
    const Json json = parsed(text);
    std::optional<Json> raster = typed(json, sizes);
    if (!raster || !json.contains("shown") || !json.contains("spikes")) return std::nullopt;
    const Json &shown = json["shown"], &spikes = json["spikes"];
    const auto neurons = (*raster)["neurons"].get<std::int64_t>(), steps = (*raster)["steps"].get<std::int64_t>();
    const auto all_up_to = [](const Json& list, std::int64_t most) {
        return list.is_array() &&
               std::all_of(list.begin(), list.end(), [&](const Json& value) { return is_count(value, most); });
    };
    if (neurons < 1 || steps < 1 || !all_up_to(shown, neurons - 1) || shown.empty() || !spikes.is_array() ||
        spikes.size() != shown.size() ||
        !std::all_of(spikes.begin(), spikes.end(), [&](const Json& times) { return all_up_to(times, steps); }))
        return std::nullopt;
    if (json.contains("populations")) {
        constexpr Field parts[] = {{"name", Type::text}, {"begin", Type::count}, {"size", Type::count}};
        if (!json["populations"].is_array()) return std::nullopt;
        for (const Json& part : json["populations"]) {
            const std::optional<Json> population = typed(part, parts);
            if (!population) return std::nullopt;
            (*raster)["populations"].push_back(*population);
        }
    }
    (*raster)["shown"] = shown;
    (*raster)["spikes"] = spikes;
    return raster;
}

std::optional<Json> read_confusion(std::string_view text) {
    constexpr Field fields[] = {{"step", Type::count}, {"data", Type::text}};
    const Json json = parsed(text);
    std::optional<Json> confusion = typed(json, fields);
    if (!confusion || !json.contains("counts") || !json["counts"].is_array() || json["counts"].empty())
        return std::nullopt;
    const Json& counts = json["counts"];
    for (const Json& row : counts)
        if (!row.is_array() || row.size() != counts.size() ||
            !std::all_of(row.begin(), row.end(), [](const Json& count) { return is_count(count); }))
            return std::nullopt;
    if (json.contains("classes")) {
        const Json& names = json["classes"];
        if (!names.is_array() || names.size() != counts.size() ||
            !std::all_of(names.begin(), names.end(), [](const Json& name) { return name.is_string(); }))
            return std::nullopt;
        (*confusion)["classes"] = names;
    }
    (*confusion)["counts"] = counts;
    return confusion;
}

std::optional<Json> read_session(std::string_view text) { return typed(parsed(text), session_fields); }

}  // namespace spikefloss
