// Whether the HDF5 library comes through a file. The library has been seen to crash and to run for ever on damaged
// files. So another process opens and reads a file first, and what happens to it becomes an error.
#pragma once

#include "parallel/process_grid.hpp"

#include <string>

namespace spikefloss {

// The first word of the command line of that process where it is a program of its own; the second is the path.
inline constexpr const char* probe_word = "--probe-hdf5";

// The program that probe_fault starts with these two words where there are several ranks. Until it is set nothing is
// probed there: a program without such a command must not be started.
void set_probe_program(const std::string& program);

// All of the process that was started: reads every dataset and attribute that the readers of io/ read. Its exit code is
// 0 whether or not they are as they should be. It ends itself by a signal when the library makes no progress, and it
// cannot take much memory.
int probe_file(const std::string& path);

// "" or what is wrong with the file. Starts the process.
std::string probe_fault(const std::string& path);

// For every HDF5 file that a user names, before it is opened. The file must be a regular one, match its seal when it
// has one, and come through the probe of rank 0. Error(Exit::bad_file) on every rank. Collective.
void require_readable(const std::string& path, const ProcessGrid& grid);

}  // namespace spikefloss
