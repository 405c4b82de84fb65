// The whole text of the Error that some work throws, for comparison with the expected message.
#pragma once

#include "core/error.hpp"

#include <gtest/gtest.h>

#include <string>

namespace spikefloss {

// "" if nothing was thrown. It is a failure if the exit code is not the one for bad usage.
template <class Work>
std::string usage_error(Work&& work) {
    try {
        work();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::usage) << error.what();
        return error.what();
    }
    return "";
}

}  // namespace spikefloss

// A named part must be in the text.
#define EXPECT_HAS(text, part) \
    EXPECT_NE(std::string(text).find(part), std::string::npos) << "text: " << (text) << "\npart: " << (part)
