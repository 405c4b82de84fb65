// Views and the types of sums.
#include "core/view.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

TEST(View, MatrixKeepsItsStride) {
    float data[6] = {};
    const Matrix<float> dense(data, 2, 3), padded(data, 2, 2, 3);
    EXPECT_EQ(dense.stride, 3);
    EXPECT_EQ(padded.stride, 3);
    const Matrix<const float> constant = padded;
    EXPECT_EQ(constant.data, data);
    EXPECT_EQ(constant.rows, 2);
    EXPECT_EQ(constant.cols, 2);
    EXPECT_EQ(constant.stride, 3);
}

TEST(View, SizesOfScalars) {
    EXPECT_EQ(size_of(Scalar::float32), sizeof(float));
    EXPECT_EQ(size_of(Scalar::float64), sizeof(double));
    EXPECT_EQ(size_of(Scalar::int64), sizeof(std::int64_t));
    EXPECT_EQ(scalar_of(Sums::float32), Scalar::float32);
    EXPECT_EQ(scalar_of(Sums::float64), Scalar::float64);
}

}  // namespace
}  // namespace spikefloss
