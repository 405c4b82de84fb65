// print_batch PURPOSE STEP BATCH FIRST END [section.key=value ...]: sequences FIRST to END - 1 of a batch of a task, in
// binary, for tests in Python: T, b, M, O, the size of the data set as int64, then x, mask, target as float32 and label
// as int32. Remarks of the task go to stderr. An error ends it with its exit code. The same batch is also made by three
// threads, in the memory of another one. If the two differ, the exit code is 70.
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

bool same(const Batch& a, const Batch& b) {
    return a.x == b.x && a.mask == b.mask && a.target == b.target && a.label == b.label;
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
        TaskSettings settings{config.task, config.network.dt, static_cast<std::uint64_t>(config.run.seed)};
        const auto task = open_task(settings);
        for (const std::string& remark : task->remarks()) std::fprintf(stderr, "%s\n", remark.c_str());
        const Purpose purpose = purpose_of(words[1]);
        const std::int64_t step = std::stoll(words[2]);
        const auto sampled = [&](const Task& from, std::int64_t at) {
            return from.sample(purpose, at, std::stoll(words[3]), {std::stoll(words[4]), std::stoll(words[5])});
        };
        const Batch batch = sampled(*task, step);
        settings.threads = 3;
        const auto threaded = open_task(settings);
        threaded->recycle(sampled(*threaded, step + 1));
        if (!same(sampled(*threaded, step), batch)) {
            std::fprintf(stderr, "three threads make another batch\n");
            return 70;
        }
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
