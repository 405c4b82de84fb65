// Expects an Error with its exit code and a part of its text.
#pragma once

#include "core/error.hpp"

#include <gtest/gtest.h>

#include <string>

namespace spikefloss {

template <class Work>
void expect_error(Exit code, const std::string& piece, const Work& work) {
    try {
        work();
        ADD_FAILURE() << "no error; expected one with: " << piece;
    } catch (const Error& error) {
        const std::string text = error.what();
        EXPECT_EQ(error.code(), code) << text;
        EXPECT_NE(text.find(piece), std::string::npos) << "expected \"" << piece << "\" in: " << text;
        EXPECT_NE(text.find("what to do: "), std::string::npos) << text;
    }
}

}  // namespace spikefloss
