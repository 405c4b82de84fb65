// print_batch PURPOSE STEP BATCH FIRST END [section.key=value ...]: sequences FIRST to END - 1 of a batch of a task, in
// binary, for tests in Python: T, b, M, O, the size of the data set as int64, then x, mask, target as float32 and label
// as int32. Remarks of the task go to stderr. An error ends it with its exit code.
#include "config/schema.hpp"
#include "core/error.hpp"
#include "sequences/open_task.hpp"

#include <cstdio>
#include <string>

using namespace spikefloss;

namespace {

template <class T>
void put(const std::vector<T>& values) {
    std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

Purpose purpose_of(const std::string& word) {
    const char* const words[] = {"train", "test", "floss", "diagnose", "validation"};
    for (int i = 0; i < 5; ++i)
        if (word == words[i]) return static_cast<Purpose>(i);
    throw Error(Exit::usage, "no purpose: " + word);
}

}  // namespace

int main(int count, char** words) {
    try {
        Config config;
        set_key("task.name=sequences", config);
        for (int i = 6; i < count; ++i) set_key(words[i], config);
        check_config(config);
        const auto task = open_task({config.task, config.network.dt, static_cast<std::uint64_t>(config.run.seed)});
        for (const std::string& remark : task->remarks()) std::fprintf(stderr, "%s\n", remark.c_str());
        const Purpose purpose = purpose_of(words[1]);
        const Batch batch = task->sample(purpose, std::stoll(words[2]), std::stoll(words[3]),
                                         {std::stoll(words[4]), std::stoll(words[5])});
        put(std::vector<std::int64_t>{batch.steps, batch.sequences, batch.inputs, batch.outputs,
                                      task->dataset_size(purpose)});
        put(batch.x);
        put(batch.mask);
        put(batch.target);
        put(batch.label);
        return 0;
    } catch (const Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return static_cast<int>(error.code());
    }
}
