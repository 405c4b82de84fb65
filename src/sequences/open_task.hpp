// Makes any task, also of sequences from HDF5 files.
#pragma once

#include "parallel/process_grid.hpp"
#include "tasks/task.hpp"

#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

// As make_task, for every task. Without communication.
std::unique_ptr<Task> open_task(const TaskSettings& settings);
// The same after a probe of the HDF5 files (io/file_probe.hpp). Collective; an error is on every rank.
std::unique_ptr<Task> open_task(const TaskSettings& settings, const ProcessGrid& grid);

// The key that says where the data of a task are, and its value; an empty key for generated tasks.
struct DataPlace {
    std::string key, value;
};
DataPlace data_place(const TaskConfig& task);

// The HDF5 files of a task.
std::vector<std::string> hdf5_files(const TaskConfig& task);
// The names of the classes in task.file (extra/keys), or none.
std::vector<std::string> class_names(const TaskConfig& task);

std::unique_ptr<Task> make_sequences(const TaskSettings& settings);  // sequences.cpp

}  // namespace spikefloss
