// The factories of all tasks. A task is one .cpp file with a class and its factory. A line here and a row in
// registry.cpp register it. A factory throws Error(Exit::usage) for contradictory settings of its own task.
#pragma once

#include "tasks/task.hpp"

namespace spikefloss {

using TaskFactory = std::unique_ptr<Task>(const TaskSettings&);

TaskFactory make_delayed_copy, make_delayed_xor;  // delayed_bits.cpp
TaskFactory make_cue_recall;                      // cue_recall.cpp
TaskFactory make_images;                          // images.cpp

}  // namespace spikefloss
