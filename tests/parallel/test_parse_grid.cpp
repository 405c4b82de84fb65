// The values of --grid.
#include "core/error.hpp"
#include "parallel/process_grid.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

std::string error_of(const std::string& text, int ranks) {
    try {
        parse_grid(text, ranks);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::usage);
        return error.what();
    }
    return "no error";
}

void expect_shape(const std::string& text, int ranks, int P, int Q) {
    const GridShape shape = parse_grid(text, ranks);
    EXPECT_EQ(shape.neuron_shards, P) << text;
    EXPECT_EQ(shape.batch_shards, Q) << text;
}

TEST(ParseGrid, Shapes) {
    expect_shape("1x1", 1, 1, 1);
    expect_shape("2x3", 6, 2, 3);
    expect_shape("3x2", 6, 3, 2);
    expect_shape("12x10", 120, 12, 10);
    expect_shape("", 4, 1, 4);
    expect_shape("auto", 4, 1, 4);
}

TEST(ParseGrid, MalformedTextsAreNamed) {
    for (const char* text : {"2", "x", "2x", "x2", "2X2", "2x2x1", " 2x2", "2 x2", "2x2 ", "+2x2", "2x-2", "-2x-2",
                             "0x4", "4x0", "2.0x2", "axb", "Auto", "4294967297x1", "99999999999999999999x1"}) {
        const std::string error = error_of(text, 4);
        EXPECT_NE(error.find(std::string("grid '") + text + "' is not of the form PxQ"), std::string::npos) << error;
        EXPECT_NE(error.find("2x2"), std::string::npos) << error;
    }
}

TEST(ParseGrid, WrongNumbersOfRanksSayWhatFits) {
    const std::string few = error_of("2x3", 4), one = error_of("2x2", 1), many = error_of("65536x65536", 4);
    EXPECT_NE(few.find("grid 2x3 needs 6 ranks, but 4 are running"), std::string::npos) << few;
    EXPECT_NE(few.find("start with mpirun -n 6, or choose a grid of 4"), std::string::npos) << few;
    EXPECT_NE(one.find("but 1 is running"), std::string::npos) << one;
    EXPECT_NE(many.find("needs 4294967296 ranks"), std::string::npos) << many;
}

}  // namespace
}  // namespace spikefloss
