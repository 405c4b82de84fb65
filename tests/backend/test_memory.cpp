// Memory of every backend, the guard words of the CPU backend, the owning buffers, and the factory.
#include "backend/operation_test.hpp"
#include "core/error.hpp"

#include <cblas.h>
#include <omp.h>

#include <filesystem>
#include <iterator>
#include <limits>

extern "C" __attribute__((weak)) int blas_thread_shutdown_();  // NOLINT(readability-identifier-naming)

namespace spikefloss::testing_support {
namespace {

class Memory : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(Memory);

TEST_P(Memory, CopiesAndZeroes) {
    for (Index count : {0, 1, 15, 16, 17, 1000}) {
        SCOPED_TRACE(count);
        const Floats host = random_floats(count, 1);
        Buffer<float> a(backend, host), b(backend, count);
        EXPECT_TRUE(all_equal(b.to_host(), Floats(count, 0.0f)));
        backend.copy(b.data(), a.data(), b.bytes());
        EXPECT_TRUE(all_equal(b.to_host(), host));
        a.zero();
        EXPECT_TRUE(all_equal(a.to_host(), Floats(count, 0.0f)));
        a.copy_in(host.data());
        backend.synchronize();
        EXPECT_TRUE(all_equal(a.to_host(), host));
    }
}

// Large blocks are used again. What is in them must not be seen.
TEST_P(Memory, UsedMemoryIsZeroed) {
    for (const Index count : {1 << 20, (1 << 20) - 3}) {
        SCOPED_TRACE(count);
        { const Buffer<float> used(backend, Floats(static_cast<std::size_t>(count), 1.0f)); }
        const Buffer<float> again(backend, count);
        EXPECT_TRUE(all_equal(again.to_host(), Floats(static_cast<std::size_t>(count), 0.0f)));
    }
}

TEST_P(Memory, BuffersMove) {
    Buffer<float> a(backend, Floats{1.0f, 2.0f});
    Buffer<float> b(std::move(a));
    EXPECT_FALSE(a);
    EXPECT_EQ(a.size(), 0);
    EXPECT_TRUE(all_equal(b.to_host(), Floats{1.0f, 2.0f}));
    Buffer<float> c(backend, Floats{3.0f});
    c = std::move(b);
    EXPECT_TRUE(all_equal(c.to_host(), Floats{1.0f, 2.0f}));
    const Buffer<float> empty;
    EXPECT_FALSE(empty);
    EXPECT_TRUE(empty.to_host().empty());
}

TEST_P(Memory, SumBuffersHaveTheTypeOfTheSums) {
    SumBuffer sums(backend, 6);
    EXPECT_EQ(sums.type(), backend.sums() == Sums::float32 ? Scalar::float32 : Scalar::float64);
    const auto bytes = static_cast<char*>(sums.data(2)) - static_cast<char*>(sums.data());
    EXPECT_EQ(bytes, static_cast<std::ptrdiff_t>(2 * size_of(sums.type())));
    const SumMatrix matrix = sums.matrix(2, 2, 2);
    EXPECT_EQ(matrix.data, sums.data(2));
    EXPECT_EQ(matrix.stride, 2);
    EXPECT_TRUE(close_to(to_host(sums), Doubles(6, 0.0), 0.0));
}

// An operation that is only counted computes nothing, and takes no more scratch than it then told.
TEST_P(Memory, ScratchIsToldBeforeItIsTaken) {
    const BasisShape shape{2, 3, 11, true};
    const Index D = shape.D(), square = shape.b * shape.k * shape.k;
    const Floats host = random_floats(shape.size(), 2);
    Buffer<float> x(backend, host), y(backend, host);
    Buffer<double> g(backend, square), r(backend, square), logs(backend, shape.rows());
    Buffer<std::int32_t> info(backend, shape.b);
    SumBuffer sums(backend, D * D);
    const std::vector<std::function<void()>> operations = {
        [&] {
            backend.add_column_sums({x.data(), shape.rows(), D}, sums.matrix(1, D));
        },
        [&] { backend.gram(shape, x.data(), x.data(), g.data()); },
        [&] { backend.gram(shape, x.data(), y.data(), g.data()); },
        [&] {
            backend.add_outer({x.data(), shape.rows(), D}, {.values = y.data(), .stride = D}, sums.matrix(D, D));
        },
        [&] { backend.householder(shape.b, shape.k, D, x.data(), r.data(), logs.data(), info.data()); },
        [&] { backend.qr_backward(shape.b, shape.k, D, x.data(), r.data(), logs.data(), g.data(), y.data()); }};
    for (std::size_t at = 0; at < operations.size(); ++at) {
        SCOPED_TRACE(at);
        const std::size_t before = backend.scratch_bytes(), told = backend.scratch_of(operations[at]);
        EXPECT_EQ(backend.scratch_bytes(), before);
        if (at == 0) {
            EXPECT_TRUE(close_to(to_host(sums), Doubles(static_cast<std::size_t>(D * D), 0.0), 0.0));
        }
        operations[at]();
        EXPECT_EQ(backend.scratch_bytes(), std::max(before, told));
    }
    // At least the basis and the adjoint of one sequence, in double.
    EXPECT_GE(backend.scratch_bytes(), 2 * static_cast<std::size_t>(shape.k * D) * sizeof(double));
}

TEST(CpuMemory, IsAlignedForVectors) {
    const auto backend = make_backend(BackendKind::cpu, 1, Sums::float32);
    for (Index count : {1, 3, 17, 600'000}) {
        const Buffer<float> buffer(*backend, count);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
    }
}

#ifndef __SANITIZE_ADDRESS__  // the address sanitizer ends the program at such a request
TEST(CpuMemory, TooMuchIsAnErrorThatSaysWhatToDo) {
    const auto backend = make_backend(BackendKind::cpu, 1, Sums::float32);
    try {
        backend->allocate(std::size_t{1} << 56);
        FAIL() << "2^56 bytes were allocated";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::usage);
        EXPECT_NE(std::string(error.what()).find("no memory left"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("train.batch"), std::string::npos) << error.what();
    }
}
#endif

// A write of one byte at `offset` from an array of `bytes` bytes ends the program when the array is freed.
void write_outside(std::size_t bytes, std::ptrdiff_t offset) {
    const auto backend = make_backend(BackendKind::cpu, 1, Sums::float32);
    auto* data = static_cast<unsigned char*>(backend->allocate(bytes));
    data[offset] = 0;
    backend->deallocate(data);
}

TEST(CpuMemoryDeathTest, WritesOutsideAnArrayAreFoundWhenItIsFreed) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    for (std::ptrdiff_t bytes : {0, 4, 64, 100}) {
        SCOPED_TRACE(bytes);
        const std::string text = "wrote outside an array of " + std::to_string(bytes) + " bytes";
        EXPECT_DEATH(write_outside(bytes, -1), text);
        EXPECT_DEATH(write_outside(bytes, -56), text);
        EXPECT_DEATH(write_outside(bytes, bytes), text);
        EXPECT_DEATH(write_outside(bytes, bytes + 63), text);
    }
}

TEST(CpuMemory, WritesInsideAnArrayAreNot) {
    write_outside(4, 3);
    write_outside(4, 0);
}

// Other parts of the process may use OpenMP and OpenBLAS, too.
TEST(CpuThreads, AreThoseOfTheProcessAgainAfterwards) {
    const auto threads = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}); };
    const int openmp = omp_get_max_threads(), openblas = openblas_get_num_threads();
    const auto at_start = threads();
    openblas_set_num_threads(2);
    if (blas_thread_shutdown_) {
        EXPECT_GT(threads(), at_start) << "OpenBLAS had its threads already";  // src/blas_start.cpp
    }
    {
        const auto first = make_backend(BackendKind::cpu, 1, Sums::float32);
        { const auto second = make_backend(BackendKind::cpu, openmp + 1, Sums::float32); }
        EXPECT_EQ(openblas_get_num_threads(), 1);
    }
    EXPECT_EQ(openblas_get_num_threads(), 2);
    EXPECT_EQ(omp_get_max_threads(), openmp);
    openblas_set_num_threads(openblas);
    if (blas_thread_shutdown_) blas_thread_shutdown_();
}

TEST(Factory, RefusesWhatTheBuildDoesNotHave) {
    EXPECT_EQ(make_backend(BackendKind::automatic, 1, Sums::float64)->sums(), Sums::float64);
    EXPECT_EQ(make_backend(BackendKind::cpu, 2, Sums::float32)->name(), "cpu");
    const auto text_of = [](auto&& make) -> std::string {
        try {
            make();
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Exit::usage);
            return error.what();
        }
        return "no error";
    };
    if (backend_names() == "cpu") {
        const std::string absent = text_of([] { make_backend(BackendKind::cuda, 1, Sums::float32); });
        EXPECT_NE(absent.find("backend 'cuda' is not in this build"), std::string::npos) << absent;
    }
    const std::string threads = text_of([] { make_backend(BackendKind::cpu, 0, Sums::float32); });
    EXPECT_NE(threads.find("0 threads"), std::string::npos) << threads;
}

}  // namespace
}  // namespace spikefloss::testing_support
