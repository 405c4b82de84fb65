// The table of predicted times in docs/performance.md, by the formulas that choose the passes, for an H100.
#include "backend/counting_backend.hpp"
#include "backend/factory.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace spikefloss::testing_support {
namespace {

// "name microseconds" of the passes forwards and backwards, as two cells of the table.
std::string cells_without(const std::vector<std::string>& without, Index N, Index b) {
    const auto backend = make_backend(BackendChoice{.kind = BackendKind::cuda, .without_passes = without});
    CountingBackend memory(*backend);  // the passes are made, and never run
    const auto [forward, backward] = backend->state_passes({1, b, N, 100, 10}, memory);
    const auto cell = [](const auto& chosen) {
        return chosen.pass ? fmt::format("{} {:.1f}", chosen.name, chosen.microseconds) : std::string("loop");
    };
    return cell(forward) + " | " + cell(backward);
}

TEST(PredictedTimes, AreThoseOfTheDocs) {
    std::ifstream file(SPIKEFLOSS_SOURCE_DIR "/docs/performance.md");
    std::stringstream text;
    text << file.rdbuf();
    for (const auto& [N, b] :
         std::vector<std::pair<Index, Index>>{{80, 16}, {256, 64}, {512, 64}, {1024, 64}, {2048, 64}, {16384, 64}}) {
        const std::string row = fmt::format("| {} | {} | {} | {} |", N, b, cells_without({}, N, b),
                                            cells_without({"tiles", "digits"}, N, b));
        EXPECT_NE(text.str().find(row), std::string::npos) << "write into docs/performance.md: " << row;
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
