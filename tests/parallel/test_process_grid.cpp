// The owners of neurons and sequences on every grid, and the agreement of ranks about a failure. EXPECT_ only.
#include "core/error.hpp"
#include "parallel/process_grid.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace spikefloss {
namespace {

int world_size() {
    int size = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

template <class Test>
void for_every_grid(Test&& test) {
    for (int P = 1; P <= world_size(); ++P) {
        if (world_size() % P != 0) continue;
        SCOPED_TRACE(testing::Message() << "grid " << P << "x" << world_size() / P);
        const ProcessGrid grid(MPI_COMM_WORLD, {P, world_size() / P});
        test(grid);
    }
}

TEST(ProcessGrid, RanksAndTheirCommunicators) {
    for_every_grid([](const ProcessGrid& grid) {
        const auto [P, Q] = grid.shape();
        int rank = -1;
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        EXPECT_EQ(P * Q, grid.ranks());
        EXPECT_EQ(grid.rank(), rank);
        EXPECT_EQ(grid.neuron_shard() + P * grid.batch_shard(), rank);
        EXPECT_EQ(grid.world().size(), P * Q);
        EXPECT_EQ(grid.world().rank(), rank);
        EXPECT_EQ(grid.neurons().size(), P);
        EXPECT_EQ(grid.neurons().rank(), grid.neuron_shard());
        EXPECT_EQ(grid.batch().size(), Q);
        EXPECT_EQ(grid.batch().rank(), grid.batch_shard());
    });
}

// `neurons` joins the ranks with the same sequences, `batch` those with the same neurons.
TEST(ProcessGrid, GroupsJoinTheRightRanks) {
    for_every_grid([](const ProcessGrid& grid) {
        const auto [P, Q] = grid.shape();
        const auto members = [&](Communicator& group) {
            std::vector<int> ranks(static_cast<std::size_t>(group.size()), -1);
            const std::vector<Index> bytes(static_cast<std::size_t>(group.size()), sizeof(int));
            const int mine = grid.rank();
            group.all_gather(&mine, ranks.data(), bytes);
            return ranks;
        };
        std::vector<int> same_sequences, same_neurons;
        for (int p = 0; p < P; ++p) same_sequences.push_back(p + P * grid.batch_shard());
        for (int q = 0; q < Q; ++q) same_neurons.push_back(grid.neuron_shard() + P * q);
        EXPECT_EQ(members(grid.neurons()), same_sequences);
        EXPECT_EQ(members(grid.batch()), same_neurons);
    });
}

// Every (sequence, neuron) has exactly one owner, also if P does not divide N or Q does not divide the batch.
TEST(ProcessGrid, EverythingIsOwnedOnce) {
    for_every_grid([](const ProcessGrid& grid) {
        for (Index N : {6, 7, 64})
            for (Index B : {6, 11}) {
                std::vector<double> owners(static_cast<std::size_t>(N * B), 0.0);
                const BlockRange neurons = grid.neurons_of(N), sequences = grid.sequences_of(B);
                for (Index s = sequences.begin; s < sequences.end; ++s)
                    for (Index j = neurons.begin; j < neurons.end; ++j)
                        owners[static_cast<std::size_t>(s * N + j)] += 1.0;
                grid.world().all_reduce_sum(owners.data(), Scalar::float64, N * B);
                EXPECT_EQ(owners, std::vector<double>(owners.size(), 1.0)) << "N " << N << ", B " << B;
                EXPECT_GT(neurons.size() * sequences.size(), 0);
            }
    });
}

TEST(ProcessGrid, ShapesThatDoNotFitAreRefused) {
    for (const GridShape shape :
         {GridShape{world_size() + 1, 1}, {world_size(), 2}, {0, world_size()}, {-1, -world_size()}}) {
        try {
            const ProcessGrid grid(MPI_COMM_WORLD, shape);
            ADD_FAILURE() << "a grid of " << shape.neuron_shards << "x" << shape.batch_shards << " was made";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Exit::usage);
            EXPECT_NE(std::string(error.what()).find("does not fit"), std::string::npos) << error.what();
        }
    }
}

struct Outcome {
    bool threw = false, collective = false;
    Exit code = Exit::success;
    std::string text;
};

Outcome outcome_of(const ProcessGrid& grid, const std::function<void()>& work) {
    try {
        grid.agree(work);
    } catch (const Error& error) {
        return {true, error.collective, error.code(), error.what()};
    }
    return {};
}

TEST(Agree, ReturnsWhereAllSucceed) {
    for_every_grid([](const ProcessGrid& grid) {
        int runs = 0;
        EXPECT_FALSE(outcome_of(grid, [&] { ++runs; }).threw);
        EXPECT_EQ(runs, 1);
    });
}

// One rank fails. It prints the error; the others end silently with its code.
TEST(Agree, OneRankFailsForAll) {
    for_every_grid([](const ProcessGrid& grid) {
        for (int failing = 0; failing < grid.ranks(); ++failing) {
            SCOPED_TRACE(testing::Message() << "rank " << failing << " fails");
            const Outcome outcome = outcome_of(grid, [&] {
                if (grid.rank() == failing) throw Error(Exit::bad_file, "no such file", "look again");
            });
            EXPECT_TRUE(outcome.threw);
            EXPECT_TRUE(outcome.collective);
            EXPECT_EQ(outcome.code, Exit::bad_file);
            EXPECT_EQ(outcome.text, grid.rank() == failing ? "no such file\n  what to do: look again" : "");
        }
    });
}

TEST(Agree, TheLowestFailingRankSpeaks) {
    for_every_grid([](const ProcessGrid& grid) {
        for (int first = 0; first < grid.ranks(); ++first) {
            SCOPED_TRACE(testing::Message() << "ranks from " << first << " on fail");
            const Outcome outcome = outcome_of(grid, [&] {
                if (grid.rank() >= first)
                    throw Error(grid.rank() == first ? Exit::storage : Exit::numerics,
                                fmt::format("rank {}", grid.rank()));
            });
            EXPECT_TRUE(outcome.collective);
            EXPECT_EQ(outcome.code, Exit::storage);
            EXPECT_EQ(outcome.text, grid.rank() == first ? fmt::format("rank {}", first) : "");
        }
    });
}

// Exceptions of libraries are internal errors with their text. Lack of memory is an exception: the user can act.
TEST(Agree, OtherExceptionsBecomeErrors) {
    for_every_grid([](const ProcessGrid& grid) {
        const int last = grid.ranks() - 1;
        const Outcome library = outcome_of(grid, [&] {
            if (grid.rank() == last) throw std::runtime_error("from a library");
        });
        const Outcome memory = outcome_of(grid, [&] {
            if (grid.rank() == last) throw std::bad_alloc();
        });
        EXPECT_TRUE(library.collective);
        EXPECT_EQ(library.code, Exit::internal);
        EXPECT_TRUE(memory.collective);
        EXPECT_EQ(memory.code, Exit::usage);
        EXPECT_TRUE(library.text.starts_with(grid.rank() == last ? "from a library\n  what to do: " : ""))
            << library.text;
        EXPECT_TRUE(memory.text.starts_with(grid.rank() == last ? "no memory left\n  what to do: " : ""))
            << memory.text;
        EXPECT_EQ(library.text.empty(), grid.rank() != last);
        EXPECT_EQ(memory.text.empty(), grid.rank() != last);
    });
}

// After a failure the grid still works.
TEST(Agree, LeavesTheGridUsable) {
    for_every_grid([](const ProcessGrid& grid) {
        for (int attempt = 0; attempt < 3; ++attempt)
            EXPECT_TRUE(outcome_of(grid, [&] {
                            if (grid.rank() == attempt % grid.ranks()) throw Error(Exit::usage, "again");
                        }).threw);
        double ranks = 1.0;
        grid.world().all_reduce_sum(&ranks, Scalar::float64, 1);
        EXPECT_EQ(ranks, grid.ranks());
    });
}

}  // namespace
}  // namespace spikefloss
