// The five collectives in the memory of a backend, made by the factory as in the program: MPI with the CPU backend,
// staging and NCCL with the CUDA backend, on every grid of the running ranks, with exact sums. EXPECT_ only.
#include "backend/backends.hpp"
#include "backend/buffer.hpp"
#include "backend/factory.hpp"
#include "core/error.hpp"
#include "parallel/process_grid.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

namespace spikefloss {
namespace {

struct Case {
    std::string name;
    BackendKind backend;
    CommKind comm;
};

std::ostream& operator<<(std::ostream& out, const Case& which) { return out << which.name; }

int world(int (*ask)(MPI_Comm, int*)) {
    int value = 0;
    ask(MPI_COMM_WORLD, &value);
    return value;
}

// x *= factor, where 1 - factor is exact, as an update of x with the gradient x.
void multiply(Backend& backend, float* x, float factor, Index count) {
    const UpdateView all{1, count, count, x, nullptr, nullptr, x};
    backend.update(Sgd{1.0f - factor, 0.0f}, 1.0f, {&all, 1});
}

class DeviceCommunicators : public testing::TestWithParam<Case> {
protected:
    // test(backend, communicator) for the three communicators of every grid. On emulated devices it also runs with
    // streams that run their work as early as possible.
    template <class Test>
    void for_every_communicator(Test&& test) {
#ifdef SPIKEFLOSS_TEST_EMULATED
        setenv("SPIKEFLOSS_EMULATION_DEVICES", GetParam().comm == CommKind::nccl ? "6" : "1", 1);
        setenv("SPIKEFLOSS_EMULATION_SEED", "1", 1);
        for_every_grid(test);
        unsetenv("SPIKEFLOSS_EMULATION_SEED");
#endif
        for_every_grid(test);
    }

private:
    template <class Test>
    void for_every_grid(Test&& test) {
        const int ranks = world(MPI_Comm_size), rank = world(MPI_Comm_rank);
        for (int P = 1; P <= ranks; ++P) {
            if (ranks % P != 0) continue;
            const auto backend = make_backend({.kind = GetParam().backend,
                                               .local_rank = rank,
                                               .local_ranks = ranks,
                                               .share_device = GetParam().comm == CommKind::staged});
            ProcessGrid grid(MPI_COMM_WORLD, {P, ranks / P}, 60.0);
            connect(GetParam().comm, *backend, grid);
            for (Communicator* communicator : {&grid.world(), &grid.neurons(), &grid.batch()}) {
                SCOPED_TRACE(testing::Message()
                             << "grid " << P << "x" << ranks / P << ", " << communicator->size() << " ranks");
                test(*backend, *communicator);
            }
            grid.connect({});
        }
    }
};

// Equal blocks, unequal ones with empty ones between, all on the last rank.
std::vector<std::vector<Index>> block_sizes(int ranks) {
    std::vector<std::vector<Index>> all(3, std::vector<Index>(static_cast<std::size_t>(ranks), 0));
    for (int r = 0; r < ranks; ++r) {
        all[0][r] = 40;
        all[1][r] = r % 3 == 1 ? 0 : 8 * r + 16;
    }
    all[2].back() = 72;
    return all;
}

// A multiple of 2^-10: sums are exact in any order.
template <class T>
T contribution(int rank, Index at) {
    return static_cast<T>((rank + 1) * (at % 97 + 3) - 50 * rank) / T(1024);
}
template <class T>
T exact_sum(int ranks, Index at) {
    T sum = 0;
    for (int r = 0; r < ranks; ++r) sum += contribution<T>(r, at);
    return sum;
}

TEST_P(DeviceCommunicators, AllGather) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        for (const std::vector<Index>& bytes : block_sizes(communicator.size())) {
            const auto value = [](int rank, Index at) { return static_cast<unsigned char>(31 * rank + 7 * at + 1); };
            std::vector<unsigned char> mine, expected;
            for (int r = 0; r < communicator.size(); ++r)
                for (Index at = 0; at < bytes[r]; ++at) expected.push_back(value(r, at));
            for (Index at = 0; at < bytes[communicator.rank()]; ++at) mine.push_back(value(communicator.rank(), at));
            const Buffer<unsigned char> send(backend, mine);
            Buffer<unsigned char> receive(backend, static_cast<Index>(expected.size()));
            communicator.all_gather(send.data(), receive.data(), bytes);
            EXPECT_EQ(receive.to_host(), expected);
        }
    });
}

template <class T>
void check_sums(Backend& backend, Communicator& communicator, Scalar type) {
    const int ranks = communicator.size(), rank = communicator.rank();
    for (const std::vector<Index>& counts : block_sizes(ranks)) {
        std::vector<T> mine, expected;
        const Index total = std::accumulate(counts.begin(), counts.end(), Index(0));
        const Index first = std::accumulate(counts.begin(), counts.begin() + rank, Index(0));
        for (Index at = 0; at < total; ++at) mine.push_back(contribution<T>(rank, at));
        for (Index at = first; at < first + counts[rank]; ++at) expected.push_back(exact_sum<T>(ranks, at));
        const Buffer<T> send(backend, mine);
        Buffer<T> receive(backend, counts[rank]);
        communicator.reduce_scatter_sum(send.data(), receive.data(), type, counts);
        EXPECT_EQ(receive.to_host(), expected) << "reduce_scatter_sum";
    }
    for (Index count : {0, 1, 33, 5003}) {
        std::vector<T> mine, expected;
        for (Index at = 0; at < count; ++at) {
            mine.push_back(contribution<T>(rank, at));
            expected.push_back(exact_sum<T>(ranks, at));
        }
        Buffer<T> data(backend, mine);
        communicator.all_reduce_sum(data.data(), type, count);
        EXPECT_EQ(data.to_host(), expected) << "all_reduce_sum of " << count;
    }
}

TEST_P(DeviceCommunicators, Sums) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        check_sums<float>(backend, communicator, Scalar::float32);
        check_sums<double>(backend, communicator, Scalar::float64);
    });
}

TEST_P(DeviceCommunicators, BroadcastFromEveryRootAndBarrier) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        for (int root = 0; root < communicator.size(); ++root) {
            Buffer<int> data(backend, std::vector<int>(100, communicator.rank()));
            communicator.broadcast(data.data(), 100 * sizeof(int), root);
            communicator.barrier();
            EXPECT_EQ(data.to_host(), std::vector<int>(100, root));
        }
    });
}

// Queued operations before and after a collective keep their order.
TEST_P(DeviceCommunicators, TakeTheirPlaceInTheQueue) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        Buffer<float> data(backend, std::vector<float>(1000, 1.0f));
        for (int round = 0; round < 3; ++round) {
            multiply(backend, data.data(), 2.0f, 1000);
            communicator.all_reduce_sum(data.data(), Scalar::float32, 1000);
        }
        const auto ranks = static_cast<float>(communicator.size());
        EXPECT_EQ(data.to_host(), std::vector<float>(1000, 8.0f * ranks * ranks * ranks));
    });
}

// Two batches of sums begin one after the other. Their arrays are ready only after the work queued before. Other work
// runs at the same time. Afterwards the sums are ready for the work queued next.
TEST_P(DeviceCommunicators, SumsInTwoHalves) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        const auto ranks = static_cast<float>(communicator.size());
        EXPECT_EQ(communicator.overlaps(), GetParam().comm == CommKind::nccl);
        Buffer<float> data(backend, std::vector<float>(1000, 1.0f)), other(backend, std::vector<float>(500, 1.0f));
        for (int round = 0; round < 3; ++round) {
            multiply(backend, data.data(), 2.0f, 600);
            communicator.begin_sums(
                std::vector<SumRange>{{data.data(), 300}, {data.data() + 300, 0}, {data.data() + 300, 300}},
                Scalar::float32);
            multiply(backend, other.data(), 3.0f, 500);
            multiply(backend, data.data() + 600, 4.0f, 400);
            communicator.begin_sums(std::vector<SumRange>{{data.data() + 600, 400}}, Scalar::float32);
            multiply(backend, other.data(), 2.0f, 500);
            communicator.finish_sums();
            multiply(backend, data.data(), 0.5f, 1000);
        }
        std::vector<float> expected(1000, ranks * ranks * ranks);
        std::fill(expected.begin() + 600, expected.end(), 8.0f * ranks * ranks * ranks);
        EXPECT_EQ(data.to_host(), expected);
        EXPECT_EQ(other.to_host(), std::vector<float>(500, 216.0f));
    });
}

// A recording is called twice. In every run it works on the present content of the memory.
TEST_P(DeviceCommunicators, CollectivesAreRecorded) {
    for_every_communicator([](Backend& backend, Communicator& communicator) {
        const std::unique_ptr<Recording> recording = backend.recording();
        EXPECT_EQ(recording == nullptr, GetParam().backend == BackendKind::cpu);
        EXPECT_EQ(communicator.recorded(), GetParam().comm == CommKind::nccl);
        if (!communicator.recorded()) return;
        const auto ranks = static_cast<float>(communicator.size());
        const std::vector<Index> bytes(static_cast<std::size_t>(communicator.size()), 100 * sizeof(float));
        Buffer<float> data(backend, 100), all(backend, 100 * communicator.size());
        int calls = 0;
        for (float value : {1.0f, 2.0f, 3.0f, 4.0f}) {
            data.copy_in(std::vector<float>(100, value).data());
            recording->run([&] {
                ++calls;
                for (int step = 0; step < 3; ++step) {
                    multiply(backend, data.data(), 2.0f, 100);
                    communicator.all_reduce_sum(data.data(), Scalar::float32, 100);
                }
                communicator.all_gather(data.data(), all.data(), bytes);
            });
            EXPECT_EQ(all.to_host(),
                      std::vector<float>(100 * communicator.size(), value * 8.0f * ranks * ranks * ranks));
        }
        EXPECT_EQ(calls, 2);
    });
}

TEST_P(DeviceCommunicators, OthersAreRefused) {
    const auto backend = make_backend({.kind = GetParam().backend, .share_device = true});
    ProcessGrid grid(MPI_COMM_WORLD, {1, world(MPI_Comm_size)}, 60.0);
    try {
        connect(GetParam().backend == BackendKind::cpu ? CommKind::nccl : CommKind::mpi, *backend, grid);
        ADD_FAILURE() << "connected";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::usage);
    }
}

std::vector<Case> cases() {
    std::vector<Case> all = {{"cpu_mpi", BackendKind::cpu, CommKind::mpi}};
    if (why_no_cuda().empty()) {
        all.push_back({"cuda_staged", BackendKind::cuda, CommKind::staged});
        all.push_back({"cuda_nccl", BackendKind::cuda, CommKind::nccl});
    } else if (std::getenv("SPIKEFLOSS_TEST_BACKEND")) {  // the entry for a GPU
        std::printf("skipped: %s\n", why_no_cuda().c_str());
        if (testing_support::gpu_is_required()) std::exit(1);
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, DeviceCommunicators, testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace spikefloss
