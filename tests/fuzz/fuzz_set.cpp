// The bytes are words for --set, one per line.
#include "config/schema.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string text = fuzz::text_of(data, size);
    Config config;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        fuzz::read_or_refuse([&] { set_key(text.substr(begin, end - begin), config); });
        begin = end + 1;
    }
    fuzz::read_or_refuse([&] { check_config(config); });
    return 0;
}
