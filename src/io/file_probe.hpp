// Whether the HDF5 library can read a file. On some damaged files the library crashes or runs without end. So another
// process opens and reads a file first, and its crash or time limit becomes an error.
#pragma once

#include "parallel/process_grid.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// The first word of the command line of that process if it is a new start of the program; then come the path and
// names of datasets.
inline constexpr const char* probe_word = "--probe-hdf5";

// The program that probe_fault starts with these words if there are several ranks. Until it is set, nothing is
// probed with several ranks: a program without such a command must not be started.
void set_probe_program(const std::string& program);

// The whole work of that process: reads every dataset and attribute that the readers of io/ read, and these datasets.
// Its exit code is 0 even if they are wrong. A signal ends it if the library makes no progress. Its memory is limited.
int probe_file(const std::string& path, const std::vector<std::string>& datasets);

// The fault of the file, or "". Starts the process.
std::string probe_fault(const std::string& path, const std::vector<std::string>& datasets = {});

// For every HDF5 file that a user names, before it is opened. The file must be a regular one, match its seal if it has
// one, and pass the probe of rank 0. datasets: those with names that the config gives. Error(Exit::bad_file) on every
// rank. Collective.
void require_readable(const std::string& path, const ProcessGrid& grid, const std::vector<std::string>& datasets = {});

}  // namespace spikefloss
