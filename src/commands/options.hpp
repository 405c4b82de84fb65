// From the configuration, in milliseconds and names, to the options of the layers below, in steps and enums.
#pragma once

#include "commands/commands.hpp"
#include "config/schema.hpp"
#include "network/initialise.hpp"
#include "tasks/task.hpp"
#include "train/trainer.hpp"

namespace spikefloss {

TaskSettings task_settings(const Config& config, int threads = 0);
// The task sets the numbers of inputs and outputs; the config sets the number of neurons.
InitialNetwork initial_settings(const Config& config, const Task& task);
// Probes network.file and the files of projections (io/file_probe.hpp). Collective.
void require_readable_networks(const Config& config, const ProcessGrid& grid);
// How to step network.file if it is a NIR file.
NirRules nir_rules(const Config& config);
TrainerOptions trainer_options(const Config& config, const Task& task);

// The network with all parameters that the config trains: thresholds of single neurons are added where it trains them.
HostNetwork to_train(const Config& config, HostNetwork network, Index shards, Index shard);
// Throws Error(Exit::usage) if a network read from a file does not fit the task or the flossing of the config, or if
// the task has no data that the config needs.
void check_network(const Config& config, const Task& task, const HostNetwork& network);
// One sentence for each key of [network] that is set, but not to what network.file has.
std::vector<std::string> file_warnings(const Config& config, const NetworkModel& model);

// The config file, overridden by the assignments and then by the options of the command line.
Config config_of(const std::string& path, const std::vector<std::string>& assignments, const ParallelChoice& choice);
// The settings of a config for ranks, threads and backend.
ParallelChoice parallel_choice(const Config& config);

}  // namespace spikefloss
