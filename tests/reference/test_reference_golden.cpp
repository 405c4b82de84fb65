// The reference against the golden cases, whose values come from automatic differentiation in double precision.
#include "reference/reference.hpp"
#include "support/golden.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

using namespace testing_support;

class ReferenceGolden : public testing::TestWithParam<std::string> {
protected:
    GoldenCase golden_ = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/" + GetParam() + ".h5");
    const reference::Network& net_ = golden_.network;
    const reference::Sequences& seq_ = golden_.sequences;
    const GoldenExpectation& expect_ = golden_.expect.value();
    reference::Trajectory trajectory_ = reference::forward(net_, seq_);

    // Every gradient in the file. The file must have at least w_rec.
    static void expect_gradients(const reference::Parameters& actual, const reference::Parameters& expected) {
        EXPECT_FALSE(expected.w_rec.empty());
        for (const auto& [name, values] : reference::all_parameters) {
            if ((expected.*values).empty()) continue;
            EXPECT_TRUE(near_in_norm(actual.*values, expected.*values, 1e-10)) << name;
        }
    }
};

TEST_P(ReferenceGolden, Trajectory) {
    EXPECT_TRUE(all_equal(trajectory_.spikes, expect_.spikes));
    EXPECT_TRUE(all_near(trajectory_.current, expect_.current, 1e-12));
    EXPECT_TRUE(all_near(trajectory_.membrane, expect_.membrane, 1e-12));
    EXPECT_TRUE(all_near(trajectory_.readout, expect_.readout, 1e-12));
}

TEST_P(ReferenceGolden, TaskGradient) {
    EXPECT_EQ(expect_.loss_kind, seq_.loss);
    const auto loss = reference::task_loss(seq_, trajectory_.readout);
    EXPECT_NEAR(loss.value, expect_.task_loss, 1e-12);
    const auto gradients = reference::backward(net_, seq_, trajectory_, loss.gradient);
    expect_gradients(gradients, expect_.task_gradient);
    EXPECT_FALSE(expect_.task_gradient.w_out.empty());
    for (std::size_t t = 0; t < expect_.state_gradient_norm.size(); ++t)
        EXPECT_NEAR(gradients.state_gradient_norm[t], expect_.state_gradient_norm[t],
                    1e-10 * expect_.state_gradient_norm[t])
            << "t " << t;
}

TEST_P(ReferenceGolden, SpectrumAndPenalty) {
    const auto floss = reference::floss(net_, seq_, trajectory_, expect_.spectrum);
    EXPECT_EQ(floss.spectrum.exponents, expect_.exponents);
    EXPECT_TRUE(all_near(floss.spectrum.log_r, expect_.log_r, 1e-8));
    EXPECT_TRUE(all_near(floss.spectrum.lambda_per_sequence, expect_.lambda_per_sequence, 1e-10));
    EXPECT_TRUE(all_near(floss.spectrum.lambda, expect_.lambda, 1e-10));
    EXPECT_NEAR(floss.value, expect_.floss_loss, 1e-10);
    expect_gradients(floss.direct, expect_.floss_gradient_direct);
    expect_gradients(floss.through_state, expect_.floss_gradient);
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceGolden, testing::ValuesIn(golden_names(SPIKEFLOSS_TEST_DATA)),
                         [](const auto& test) { return test.param; });

TEST(GoldenLoader, NamesTheFileItCannotOpen) {
    try {
        load_golden("no/such/file.h5");
        FAIL() << "no error";
    } catch (const std::runtime_error& error) {
        EXPECT_NE(std::string(error.what()).find("no/such/file.h5"), std::string::npos);
    }
}

}  // namespace
}  // namespace spikefloss
