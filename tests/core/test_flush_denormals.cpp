// Numbers below the normal ones are 0 while there is a FlushDenormals, in its thread and in those that OpenMP starts.
#include "core/flush_denormals.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <thread>

namespace spikefloss {
namespace {

template <class T>
T third(T x) {
    volatile T value = x;
    value = value / T{3};
    return value;
}

TEST(FlushDenormals, OnlyWhileThereIsOne) {
    EXPECT_GT(third(2e-38f), 0.0f);
    {
        const FlushDenormals flush;
        EXPECT_EQ(third(2e-38f), 0.0f);
        EXPECT_EQ(third(3e-308), 0.0);
        EXPECT_GT(third(6e-38f), 0.0f);
        { const FlushDenormals again; }
        {
            const KeepDenormals keep;
            EXPECT_GT(third(2e-38f), 0.0f);
        }
        EXPECT_EQ(third(2e-38f), 0.0f);
    }
    EXPECT_GT(third(2e-38f), 0.0f);
}

TEST(FlushDenormals, OperandsToo) {
    volatile float small = 1e-40f;
    EXPECT_GT(small * 1e30f, 0.0f);
    const FlushDenormals flush;
    EXPECT_EQ(small * 1e30f, 0.0f);
}

TEST(FlushDenormals, ThreadsThatStartMeanwhile) {
    std::thread([] {  // of a thread of its own, so that its team is new
        const FlushDenormals flush;
        float results[2] = {1.0f, 1.0f};
#pragma omp parallel num_threads(2)
        results[omp_get_thread_num()] = third(2e-38f);
        EXPECT_EQ(results[0], 0.0f);
        EXPECT_EQ(results[1], 0.0f);
    })
        .join();
    EXPECT_GT(third(2e-38f), 0.0f);
}

}  // namespace
}  // namespace spikefloss
