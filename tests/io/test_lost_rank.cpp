// A rank is lost while a file is written. The other rank reports it once, within the time limit, and then waits for
// nothing more, although parallel HDF5 would wait at every close. Two ranks; EXPECT_ only.
#include "io/files.hpp"

#include "io/hdf5_file.hpp"

#include <chrono>
#include <functional>
#include <optional>

namespace spikefloss::test {
namespace {

constexpr double limit = 0.5;  // s, of the watchdog; the poll of all ranks takes one more second

// Rank 0 does `work` and must report that rank 1 is lost. Rank 1 does `until`, then nothing until rank 0 has ended.
void expect_lost(const std::function<void(const ProcessGrid&)>& work,
                 const std::function<void(const ProcessGrid&)>& until) {
    const bool here = world_rank() == 0;
    const ProcessGrid grid(MPI_COMM_WORLD, {1, 2}, here ? limit : 0.0);
    if (here) {
        const auto began = std::chrono::steady_clock::now();
        std::optional<Error> heard;
        try {
            work(grid);
        } catch (const Error& error) {
            heard = error;
        }
        EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(), limit + 3.0);
        EXPECT_TRUE(heard) << "nothing was thrown";
        if (heard) {
            EXPECT_EQ(heard->code(), Exit::lost) << heard->what();
            EXPECT_NE(std::string(heard->what()).find("rank 1 ("), std::string::npos) << heard->what();
        }
    } else {
        until(grid);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

TEST(LostRank, EndsAnAgreementWithinAnother) {
    expect_lost([](const ProcessGrid& grid) { grid.agree([&] { grid.agree([&] { grid.control().barrier(); }); }); },
                [](const ProcessGrid&) {});
}

// Rank 1 does the same here as OutputFile up to that point.
TEST(LostRank, IsNotWaitedForWhenAFileWasJustOpened) {
    const Folder folder;
    const std::string path = folder / "a.h5";
    expect_lost([&](const ProcessGrid& grid) { OutputFile(grid, path).finish(); },
                [&](const ProcessGrid& grid) {
                    grid.agree([] {});  // rank 0 has made the file
                    std::int64_t length = 0;
                    grid.control().broadcast(&length, sizeof length, 0);
                    std::string name(static_cast<std::size_t>(length), ' ');
                    grid.control().broadcast(name.data(), length, 0);
                    grid.agree([] {});  // and reserved its space
                    Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
                    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
                    H5Pset_fapl_mpio(access, grid.control().handle(), MPI_INFO_NULL);
                    Hdf5Handle file(H5Fopen(name.c_str(), H5F_ACC_RDWR, access), H5Fclose);
                    EXPECT_TRUE(static_cast<bool>(file));
                    file.release();  // the library closes it with MPI, on both ranks
                });
    EXPECT_EQ(folder.names(), std::vector<std::string>{});
}

}  // namespace
}  // namespace spikefloss::test
