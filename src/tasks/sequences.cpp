// sequences: data of users from HDF5 files. Here are the rules of the settings, which need no file; src/sequences reads
// the files and makes the task.
#include "core/error.hpp"
#include "tasks/factories.hpp"

namespace spikefloss {

Index sequences_steps(const TaskSettings& s) {
    const auto refuse = [](bool wrong, const std::string& problem, const char* suggestion) {
        require(!wrong, Exit::usage, problem, suggestion);
    };
    refuse(s.file.empty(), "task.file is empty, but task.name = \"sequences\" reads its training data from there",
           "name an HDF5 file; docs/data.md shows how to write one");
    const bool validation_held = s.validation_share > 0.0 || !s.validation_groups.empty();
    const bool test_held = s.test_share > 0.0 || !s.test_groups.empty();
    refuse(s.group_by.empty() && !(s.validation_groups.empty() && s.test_groups.empty()),
           "task.validation_groups or task.test_groups is set, but task.group_by is empty",
           "name the dataset with the group of each sequence, such as extra/speaker");
    refuse(s.validation_share > 0.0 && !s.validation_groups.empty(),
           "task.validation_share and task.validation_groups are both set", "leave one of them out");
    refuse(s.test_share > 0.0 && !s.test_groups.empty(), "task.test_share and task.test_groups are both set",
           "leave one of them out");
    refuse(!s.validation_file.empty() && validation_held,
           "task.validation_file is set, but validation data are also held out of task.file",
           "leave out task.validation_file, or task.validation_share and task.validation_groups");
    refuse(!s.test_file.empty() && test_held, "task.test_file is set, but test data are also held out of task.file",
           "leave out task.test_file, or task.test_share and task.test_groups");
    refuse(s.test_file.empty() && !test_held, "there are no test data: task.test_file is empty",
           "name a file, or hold out a part of task.file, such as task.test_share = 0.2 (docs/data.md)");
    refuse(s.validation_share + s.test_share >= 1.0,
           fmt::format("task.validation_share = {} and task.test_share = {} leave nothing for training",
                       s.validation_share, s.test_share),
           "hold out less");
    return s.longest > 0.0 ? whole_steps(s.longest, s.dt, "task.longest") : unknown_steps;
}

}  // namespace spikefloss
