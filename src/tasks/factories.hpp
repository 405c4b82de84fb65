// The rules and factories of all tasks. A task is one .cpp file with a class, its rules and its factory. A line here, a
// row in registry.cpp and a name in core/choices.hpp register it.
#pragma once

#include "tasks/task.hpp"

namespace spikefloss {

using TaskSteps = Index(const TaskSettings&);                    // as task_steps
using TaskFactory = std::unique_ptr<Task>(const TaskSettings&);  // of settings that the rules allow

TaskSteps delayed_bits_steps;  // delayed_bits.cpp
TaskFactory make_delayed_bits;
TaskSteps cue_recall_steps;  // cue_recall.cpp
TaskFactory make_cue_recall;
TaskSteps images_steps;  // images.cpp
TaskFactory make_images;
TaskSteps sequences_steps;  // sequences.cpp; src/sequences has the task itself

// A rule of tasks whose inputs are random spikes.
void require_different_rates(const TaskSettings& settings);

}  // namespace spikefloss
