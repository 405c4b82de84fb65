// The five collectives on the three communicators of every grid, compared for equality with values whose sums are
// exact. EXPECT_ only: if a rank left a test early, the others would wait for ever.
#include "core/error.hpp"
#include "parallel/process_grid.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace spikefloss {
namespace {

using testing_support::all_equal;

int world_size() {
    int size = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

struct NamedCommunicator {
    const char* name;
    Communicator& communicator;
};

// test(communicator) for world, neurons, batch and control of every PxQ of the running ranks.
template <class Test>
void for_every_communicator(Test&& test) {
    for (int P = 1; P <= world_size(); ++P) {
        if (world_size() % P != 0) continue;
        const ProcessGrid grid(MPI_COMM_WORLD, {P, world_size() / P});
        for (const auto& [name, communicator] : {NamedCommunicator{"world", grid.world()},
                                                 {"neurons", grid.neurons()},
                                                 {"batch", grid.batch()},
                                                 {"control", grid.control()}}) {
            SCOPED_TRACE(testing::Message() << "grid " << P << "x" << world_size() / P << ", " << name);
            test(communicator);
        }
    }
}

// Block sizes by rank: equal, unequal with empty ones in between, all on the last, and none at all.
std::vector<std::vector<Index>> block_sizes(int ranks) {
    std::vector<std::vector<Index>> all(4, std::vector<Index>(static_cast<std::size_t>(ranks), 0));
    for (int r = 0; r < ranks; ++r) {
        all[0][r] = 5;
        all[1][r] = (r * 2 + 1) % 4 == 3 ? 0 : 3 * r + 1;
    }
    all[2].back() = 9;
    return all;
}

Index total(const std::vector<Index>& sizes) { return std::accumulate(sizes.begin(), sizes.end(), Index(0)); }

TEST(Communicators, AllGather) {
    for_every_communicator([](Communicator& communicator) {
        for (const std::vector<Index>& bytes : block_sizes(communicator.size())) {
            const auto value = [](int rank, Index at) { return static_cast<unsigned char>(31 * rank + 7 * at + 1); };
            std::vector<unsigned char> send, receive(total(bytes) + 1, 0xEE), expected;
            for (int r = 0; r < communicator.size(); ++r)
                for (Index at = 0; at < bytes[r]; ++at) expected.push_back(value(r, at));
            expected.push_back(0xEE);  // nothing is written beyond the blocks
            for (Index at = 0; at < bytes[communicator.rank()]; ++at) send.push_back(value(communicator.rank(), at));
            communicator.all_gather(send.data(), receive.data(), bytes);
            EXPECT_TRUE(all_equal(receive, expected));
        }
    });
}

// Contribution of a rank to element `at`: multiples of 2^-10, so that sums are exact in every type and order.
template <class T>
T contribution(int rank, Index at) {
    const Index value = (rank + 1) * (at % 97 + 3) - 50 * rank;
    return std::is_integral_v<T> ? static_cast<T>(value << 34) : static_cast<T>(static_cast<double>(value) / 1024.0);
}

template <class T>
T exact_sum(int ranks, Index at) {
    T sum = 0;
    for (int r = 0; r < ranks; ++r) sum += contribution<T>(r, at);
    return sum;
}

template <class T>
void check_sums(Communicator& communicator, Scalar type) {
    const int ranks = communicator.size(), rank = communicator.rank();
    for (const std::vector<Index>& counts : block_sizes(ranks)) {
        std::vector<T> send, receive(counts[rank] + 1, T(-7)), expected;
        for (Index at = 0; at < total(counts); ++at) send.push_back(contribution<T>(rank, at));
        const Index first = std::accumulate(counts.begin(), counts.begin() + rank, Index(0));
        for (Index at = first; at < first + counts[rank]; ++at) expected.push_back(exact_sum<T>(ranks, at));
        expected.push_back(T(-7));
        communicator.reduce_scatter_sum(send.data(), receive.data(), type, counts);
        EXPECT_TRUE(all_equal(receive, expected)) << "reduce_scatter_sum";
    }
    for (Index count : {0, 1, 33, 10007}) {
        std::vector<T> data, expected;
        for (Index at = 0; at < count; ++at) {
            data.push_back(contribution<T>(rank, at));
            expected.push_back(exact_sum<T>(ranks, at));
        }
        data.push_back(T(-7));
        expected.push_back(T(-7));
        communicator.all_reduce_sum(data.data(), type, count);
        EXPECT_TRUE(all_equal(data, expected)) << "all_reduce_sum of " << count;
    }
}

TEST(Communicators, Sums) {
    for_every_communicator([](Communicator& communicator) {
        check_sums<float>(communicator, Scalar::float32);
        check_sums<double>(communicator, Scalar::float64);
        check_sums<std::int64_t>(communicator, Scalar::int64);
    });
}

// Terms whose sum depends on the order: in any order all ranks hold the same bits.
TEST(Communicators, AllRanksHoldTheSameSum) {
    for_every_communicator([](Communicator& communicator) {
        std::vector<float> data;
        for (int at = 0; at < 1001; ++at)
            data.push_back(1.0f / static_cast<float>(3 + at + 7 * communicator.rank()) * (at % 2 ? 1e6f : 1.0f));
        communicator.all_reduce_sum(data.data(), Scalar::float32, 1001);
        std::vector<float> of_first(data);
        communicator.broadcast(of_first.data(), 1001 * sizeof(float), 0);
        EXPECT_TRUE(all_equal(data, of_first));
    });
}

TEST(Communicators, BroadcastFromEveryRoot) {
    for_every_communicator([](Communicator& communicator) {
        for (int root = 0; root < communicator.size(); ++root)
            for (Index bytes : {0, 1, 1000}) {
                std::vector<unsigned char> data(bytes + 1), expected(bytes + 1);
                for (Index at = 0; at <= bytes; ++at) {
                    expected[at] = static_cast<unsigned char>(at < bytes ? 11 * root + at : 0xEE);
                    data[at] = static_cast<unsigned char>(at < bytes ? 11 * communicator.rank() + at : 0xEE);
                }
                communicator.broadcast(data.data(), bytes, root);
                EXPECT_TRUE(all_equal(data, expected)) << "root " << root;
            }
    });
}

// No rank leaves the barrier before the last rank, which comes late, has reached it. (All ranks of a test share a
// machine, and so a clock.)
TEST(Communicators, Barrier) {
    using Clock = std::chrono::steady_clock;
    const auto now = [] { return static_cast<std::int64_t>(Clock::now().time_since_epoch().count()); };
    for_every_communicator([&](Communicator& communicator) {
        const int last = communicator.size() - 1;
        if (communicator.rank() == last) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        std::int64_t reached = now();
        communicator.barrier();
        const std::int64_t left = now();
        communicator.broadcast(&reached, sizeof reached, last);
        EXPECT_GE(left, reached);
    });
}

std::string error_of(const std::function<void()>& call, Exit code) {
    try {
        call();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), code);
        return error.what();
    }
    return "no error";
}

// Counts that do not fit in an int are refused on every rank before anything is sent.
TEST(Communicators, MessagesThatMpiCannotCountAreRefused) {
    MpiCommunicator world(MPI_COMM_WORLD);
    if (world.size() == 1) return;  // nothing is sent
    const Index huge = Index(1) << 31;
    const std::string broadcast = error_of([&] { world.broadcast(nullptr, huge, 0); }, Exit::usage);
    EXPECT_NE(broadcast.find("2147483648 elements"), std::string::npos) << broadcast;
    const std::vector<Index> one(static_cast<std::size_t>(world.size()), huge);
    const std::string gather = error_of([&] { world.all_gather(nullptr, nullptr, one); }, Exit::usage);
    EXPECT_NE(gather.find("larger P"), std::string::npos) << gather;
    if (world.size() > 2) {  // each block fits, the displacement of the last does not
        const std::vector<Index> together(static_cast<std::size_t>(world.size()), (huge - 1) / 2 + 1);
        const std::string sum =
            error_of([&] { world.reduce_scatter_sum(nullptr, nullptr, Scalar::float32, together); }, Exit::usage);
        EXPECT_NE(sum.find("more than MPI can send"), std::string::npos) << sum;
    }
}

TEST(Communicators, ErrorsOfMpiBecomeErrorsWithItsText) {
    MpiCommunicator world(MPI_COMM_WORLD);
    int value = 0;
    const std::string text = error_of([&] { world.broadcast(&value, sizeof value, world.size() + 3); }, Exit::internal);
    EXPECT_NE(text.find("MPI_Bcast failed: MPI_ERR_ROOT"), std::string::npos) << text;
    EXPECT_EQ(error_of([] { check_mpi(MPI_SUCCESS, "MPI_Send"); }, Exit::internal), "no error");
}

// A message of the caller on the same MPI communicator does not interfere with our messages.
TEST(Communicators, HaveTheirOwnMpiCommunicator) {
    MpiCommunicator a(MPI_COMM_WORLD), b(MPI_COMM_WORLD);
    int result = 0;
    MPI_Comm_compare(a.handle(), MPI_COMM_WORLD, &result);
    EXPECT_EQ(result, MPI_CONGRUENT);
    MPI_Comm_compare(a.handle(), b.handle(), &result);
    EXPECT_EQ(result, MPI_CONGRUENT);
}

}  // namespace
}  // namespace spikefloss
