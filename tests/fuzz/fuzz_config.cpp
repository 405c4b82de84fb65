// The bytes are a config file.
#include "config/schema.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    fuzz::read_or_refuse([&] {
        Config config;
        read_config_text(fuzz::text_of(data, size), "input.toml", config);
        check_config(config);
        check_grid(config, 1, 1);
        // The program can read its own output.
        Config again;
        read_config_text(to_toml(config, true), "again.toml", again);
        if (to_toml(again, false) != to_toml(config, false)) std::abort();
    });
    return 0;
}
