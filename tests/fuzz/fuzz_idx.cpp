// The bytes are an IDX file, plain or compressed: pictures, and then labels.
#include "fuzz/fuzz.hpp"
#include "tasks/idx.hpp"

#include <filesystem>
#include <fstream>

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    static const std::filesystem::path folder = [] {
        std::string pattern = (std::filesystem::temp_directory_path() / "spikefloss_fuzz_XXXXXX").string();
        return std::filesystem::path(mkdtemp(pattern.data()));
    }();
    std::ofstream(folder / "input", std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    for (int dimensions : {3, 1}) fuzz::read_or_refuse([&] { read_idx(folder.string(), "input", dimensions); });
    return 0;
}
