// The progress bar fits every terminal.
#include "io/progress.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

const std::string text = "step 3/12  loss 0.6931  accuracy 50.0 %  lambda_1 -0.0100  1:05 min left";

TEST(Progress, WideTerminal) {
    EXPECT_EQ(bar_line(0.25, text, 200), "[######..................] " + text);
    EXPECT_EQ(bar_line(1.0, text, 200), "[########################] " + text);
}

TEST(Progress, NeverWiderThanTheTerminal) {
    for (int columns = 1; columns < 120; ++columns)
        EXPECT_LT(bar_line(0.5, text, columns).size(), static_cast<std::size_t>(columns)) << columns;
    EXPECT_EQ(bar_line(0.5, text, 80).front(), '[');
    EXPECT_EQ(bar_line(0.5, text, 75), text.substr(0, 74));
    EXPECT_EQ(bar_line(0.5, text, 10), "step 3/12");
}

}  // namespace
}  // namespace spikefloss
