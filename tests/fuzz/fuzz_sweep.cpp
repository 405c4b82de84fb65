// The bytes are a sweep file, and, from the first byte 0 on, the JSON that a sweep keeps in its directory.
#include "config/sweep.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string text = fuzz::text_of(data, size);
    const std::size_t split = std::min(text.find('\0'), text.size());
    fuzz::read_or_refuse([&] {
        // A base that exists, for any text.
        const Sweep sweep = read_sweep_text(text.substr(0, split), SPIKEFLOSS_SOURCE_DIR "/configs/sweeps/input.toml");
        if (points_of(sweep).size() > 100000) return;
        sweep_from_json(sweep_to_json(sweep), "again.json");
    });
    if (split < text.size()) fuzz::read_or_refuse([&] { sweep_from_json(text.substr(split + 1), "input.json"); });
    return 0;
}
