// The devices and settings of a session, as text and as JSON.
#include "commands/session.hpp"
#include "io/build_text.hpp"

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

#include <ctime>

namespace spikefloss {

// Of every rank. Collective.
std::vector<std::string> Session::devices() const {
    constexpr std::size_t width = 160;
    std::string mine = device_;
    mine.resize(width, ' ');
    std::vector<char> all(width * static_cast<std::size_t>(grid.ranks()));
    grid.control().all_gather(mine.data(), all.data(),
                              std::vector<Index>(static_cast<std::size_t>(grid.ranks()), width));
    std::vector<std::string> devices;
    for (std::size_t at = 0; at < all.size(); at += width) {
        std::string& device = devices.emplace_back(&all[at], width);
        device.erase(device.find_last_not_of(' ') + 1);
    }
    return devices;
}

std::string Session::devices_text() const {
    std::string text =
        fmt::format("backend {}, {} products, communicator {}", backend->name(), name_of(precision_), name_of(comm_));
    std::string before;
    int rank = 0;
    for (const std::string& device : devices()) {
        if (device != before) text += fmt::format("\n  from rank {}: {}", rank, device);
        before = device;
        ++rank;
    }
    if (!warning_.empty()) text += "\n  warning: " + warning_;
    return text;
}

std::string Session::record(const CheckpointOrigin& origin,
                            const std::vector<std::pair<std::string, std::string>>& passes) const {
    nlohmann::ordered_json json;
    json["started"] = fmt::format("{:%Y-%m-%d %H:%M:%S %z}", fmt::localtime(std::time(nullptr)));
    json["run"] = origin.run;
    json["data"] = origin.data;
    json["network"] = origin.network;
    json["version"] = version_text();
    json["build"] = build_text();
    json["grid"] = fmt::format("{}x{}", grid.shape().neuron_shards, grid.shape().batch_shards);
    json["threads"] = threads;
    json["backend"] = backend->name();
    json["precision"] = name_of(precision_);
    json["communicator"] = name_of(comm_);
    if (!warning_.empty()) json["warning"] = warning_;
    for (const auto& [name, form] : passes) json["passes"][name] = form;
    json["ranks"] = nlohmann::ordered_json::array();
    int rank = 0;
    for (const std::string& device : devices()) {
        json["ranks"].push_back({{"host", grid.watchdog()->host_of(rank)}, {"device", device}});
        ++rank;
    }
    return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace spikefloss
