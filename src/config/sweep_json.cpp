// The record of a sweep in its directory. It has all that is needed to name the runs and to know their configs, even if
// the files that it was read from have changed.
#include "config/schema.hpp"
#include "config/sweep.hpp"
#include "core/error.hpp"

#include <nlohmann/json.hpp>

namespace spikefloss {

using Json = nlohmann::ordered_json;

std::string sweep_to_json(const Sweep& sweep) {
    Json json;
    json["name"] = sweep.name;
    json["base_path"] = sweep.base_path;
    json["success"] = {{"accuracy", sweep.success.accuracy}, {"reports", sweep.success.reports}};
    json["set"] = sweep.common;
    json["axes"] = Json::array();
    for (const SweepAxis& axis : sweep.axes) {
        Json choices = Json::array();
        for (const SweepAxis::Choice& choice : axis.choices)
            choices.push_back({{"text", choice.text}, {"set", choice.assignments}});
        json["axes"].push_back({{"name", axis.name}, {"choices", std::move(choices)}});
    }
    json["base"] = to_toml(sweep.base, false);
    // The name and the path of the file are for people; they need not be UTF-8.
    return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Sweep sweep_from_json(const std::string& text, const std::string& origin) {
    try {
        const Json json = Json::parse(text);
        Sweep sweep;
        sweep.name = json.at("name");
        sweep.base_path = json.at("base_path");
        sweep.success = {json.at("success").at("accuracy"), json.at("success").at("reports")};
        sweep.common = json.at("set");
        for (const Json& axis : json.at("axes")) {
            SweepAxis& added = sweep.axes.emplace_back(SweepAxis{axis.at("name"), {}});
            for (const Json& choice : axis.at("choices"))
                added.choices.push_back({choice.at("text"), choice.at("set")});
            if (added.choices.empty()) throw std::runtime_error("an axis without choices");
        }
        if (sweep.axes.empty() || sweep.axes.back().name != "seed") throw std::runtime_error("no seeds");
        read_config_text(json.at("base"), origin, sweep.base);
        return sweep;
    } catch (const std::exception& fault) {
        throw Error(Exit::bad_file, fmt::format("{} is damaged: {}", origin, fault.what()),
                    "any run of the sweep writes it again: spikefloss sweep FILE --run 0");
    }
}

}  // namespace spikefloss
