#include "sequences/open_task.hpp"

#include "io/file_probe.hpp"
#include "io/hdf5_file.hpp"

namespace spikefloss {

std::unique_ptr<Task> open_task(const TaskSettings& settings) {
    if (settings.name != TaskKind::sequences) return make_task(settings);
    task_steps(settings);
    return make_sequences(settings);
}

std::unique_ptr<Task> open_task(const TaskSettings& settings, const ProcessGrid& grid) {
    std::unique_ptr<Task> task;
    grid.agree([&] { task_steps(settings); });
    for (const std::string& path : hdf5_files(settings)) require_readable(path, grid);
    grid.agree([&] { task = open_task(settings); });
    return task;
}

std::vector<std::string> hdf5_files(const TaskConfig& task) {
    std::vector<std::string> files;
    if (task.name == TaskKind::sequences)
        for (const std::string& path : {task.file, task.validation_file, task.test_file})
            if (!path.empty()) files.push_back(path);
    return files;
}

std::vector<std::string> class_names(const TaskConfig& task) {
    if (task.name != TaskKind::sequences) return {};
    const InputFile file(task.file);
    return file.has("/extra/keys") ? file.texts("/extra/keys") : std::vector<std::string>();
}

DataPlace data_place(const TaskConfig& task) {
    if (task.name == TaskKind::images) return {"task.images", task.images};
    if (task.name == TaskKind::sequences) return {"task.file", task.file};
    return {};
}

}  // namespace spikefloss
