// The bytes are a file of sequences to train on: events, or arrays in either order.
#include "fuzz/hdf5_input.hpp"
#include "sequences/open_task.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    TaskSettings settings;
    settings.name = TaskKind::sequences;
    settings.file = settings.test_file = fuzz::input_file(data, size);
    settings.longest = 20.0;
    settings.memory = size % 2 == 0 ? 1.0 : 0.0;
    fuzz::read_or_refuse([&] {
        const auto task = open_task(settings, fuzz::alone());
        for (const Purpose purpose : {Purpose::train, Purpose::test}) task->sample(purpose, 0, 3, {0, 3});
    });
    return 0;
}
