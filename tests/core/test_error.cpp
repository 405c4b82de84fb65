// The one exception type: its text, its code, and where it was raised.
#include "core/error.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

TEST(Error, TextHoldsTheProblemAndWhatToDo) {
    const Error error(Exit::bad_file, "the file is cut off", "copy it again");
    EXPECT_STREQ(error.what(), "the file is cut off\n  what to do: copy it again");
    EXPECT_EQ(error.code(), Exit::bad_file);
    EXPECT_FALSE(error.collective);
    EXPECT_STREQ(Error(Exit::internal, "broken").what(), "broken");
}

TEST(Error, RequireThrowsFromTheLineOfTheCall) {
    EXPECT_NO_THROW(require(true, Exit::usage, "not seen"));
    const unsigned line = __LINE__ + 2;
    try {
        require(false, Exit::numerics, "the loss is not finite", "lower the rate");
        FAIL() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::numerics);
        EXPECT_STREQ(error.what(), "the loss is not finite\n  what to do: lower the rate");
        EXPECT_TRUE(error.place().ends_with(fmt::format("test_error.cpp:{}", line))) << error.place();
    }
}

// Scripts and job schedulers depend on these numbers.
TEST(Error, ExitCodesAreFixed) {
    EXPECT_EQ(static_cast<int>(Exit::success), 0);
    EXPECT_EQ(static_cast<int>(Exit::internal), 1);
    EXPECT_EQ(static_cast<int>(Exit::usage), 2);
    EXPECT_EQ(static_cast<int>(Exit::bad_file), 2);
    EXPECT_EQ(static_cast<int>(Exit::numerics), 3);
    EXPECT_EQ(static_cast<int>(Exit::storage), 1);
    EXPECT_EQ(static_cast<int>(Exit::lost), 75);
    EXPECT_EQ(static_cast<int>(Exit::stopped), 85);
}

TEST(Error, ShowsControlCharactersOfNames) {
    const std::string name("a\0b\x1b[2J\r\x7f", 9);
    EXPECT_STREQ(Error(Exit::usage, "no file " + name, "name another").what(),
                 "no file a\\x00b\\x1b[2J\\x0d\\x7f\n  what to do: name another");
    EXPECT_EQ(printable("caf\xc3\xa9\ttab"), "caf\xc3\xa9\ttab");
}

}  // namespace
}  // namespace spikefloss
