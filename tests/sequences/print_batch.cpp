// print_batch PURPOSE STEP BATCH FIRST END [section.key=value ...]: sequences FIRST to END - 1 of a batch of a task, in
// binary, for tests in Python: T, b, M, O, the size of the data set, and whether sample_bits gives x as bits, as int64;
// then x, mask, target as float32 and label as int32. Remarks of the task go to stderr. An error ends it with its exit
// code. The same batch is also made by three threads, in the memory of another one, as numbers and as bits. If two
// differ, the exit code is 70.
#include "backend/backend.hpp"
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

// The batch with its bits as numbers.
Batch unpacked(Batch batch) {
    if (batch.x_bits.empty()) return batch;
    const Index rows = batch.steps * batch.sequences, M = batch.inputs, words = spike_words(M);
    for (Index r = 0; r < rows; ++r)
        for (Index m = 0; m < M; ++m)
            batch.x.push_back(
                static_cast<float>(batch.x_bits[static_cast<std::size_t>(r * words + m / 32)] >> m % 32 & 1u));
    for (Index r = 0; M % 32 > 0 && r < rows; ++r)
        if (batch.x_bits[static_cast<std::size_t>((r + 1) * words - 1)] >> M % 32) batch.x.clear();  // beyond the last
    return batch;
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
        const Index all = std::stoll(words[3]);
        const BlockRange part{std::stoll(words[4]), std::stoll(words[5])};
        const auto sampled = [&](const Task& from, std::int64_t at) { return from.sample(purpose, at, all, part); };
        const auto sampled_bits = [&](const Task& from, std::int64_t at) {
            return from.sample_bits(purpose, at, all, part);
        };
        const Batch batch = sampled(*task, step);
        settings.threads = 3;
        const auto threaded = open_task(settings);
        threaded->recycle(sampled(*threaded, step + 1));
        if (!same(sampled(*threaded, step), batch)) {
            std::fprintf(stderr, "three threads make another batch\n");
            return 70;
        }
        threaded->recycle(sampled(*threaded, step));
        Batch bits = sampled_bits(*threaded, step);
        const bool packed = !bits.x_bits.empty();
        const bool right = same(unpacked(bits), batch);
        threaded->recycle(std::move(bits));
        if (!right || !same(unpacked(sampled_bits(*task, step)), batch) || !same(sampled(*threaded, step), batch)) {
            std::fprintf(stderr, "x as bits is another x\n");
            return 70;
        }
        put(std::vector<std::int64_t>{batch.steps, batch.sequences, batch.inputs, batch.outputs,
                                      task->dataset_size(purpose), packed});
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
