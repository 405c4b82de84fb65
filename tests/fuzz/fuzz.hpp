// Common code of the fuzz targets. A target is a function of bytes, LLVMFuzzerTestOneInput, so libFuzzer (Clang) can
// run it; tests/fuzz/driver.cpp runs it with any compiler. An input is read, or it is refused with an Error with exit
// code 2. Anything else is a finding: another exception, a crash, or more than 60 seconds.
#pragma once

#include "core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace spikefloss::fuzz {

inline std::string text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

// Runs `work`, which reads the input.
template <class Work>
void read_or_refuse(Work&& work) {
    try {
        work();
    } catch (const Error& error) {
        const std::string_view text = error.what();
        const bool refused = error.code() == Exit::usage || error.code() == Exit::bad_file;
        if (refused && text.find("\n  what to do: ") != std::string_view::npos) return;
        std::fprintf(stderr, "finding: exit code %d: %s\n", static_cast<int>(error.code()), error.what());
        std::abort();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "finding: %s\n", error.what());
        std::abort();
    }
}

}  // namespace spikefloss::fuzz
