#include "team_plan.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int largest_cluster = 8;  // every device with clusters supports this size

Index divided_up(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace

std::optional<TeamPlan> plan_teams(const Device& device, Index N, Index b, const TeamNeeds& needs) {
    const int words = static_cast<int>(divided_up(N, 32));
    if (words < 1 || b < 1 || N > 65504) return std::nullopt;  // neurons are listed as 16-bit numbers
    int last_size = 0;
    for (int words_per_block = words; words_per_block >= 1; --words_per_block) {
        TeamPlan plan;
        plan.columns = 32 * words_per_block;
        plan.size = static_cast<int>(divided_up(words, words_per_block));
        if (plan.size == last_size || plan.columns > needs.most_threads) continue;
        last_size = plan.size;
        // The smallest slices that give this team size.
        plan.columns = 32 * static_cast<int>(divided_up(words, plan.size));
        plan.kind = plan.size == 1                                      ? TeamKind::block
                    : device.clusters() && plan.size <= largest_cluster ? TeamKind::cluster
                                                                        : TeamKind::grid;
        // As many teams as fit, so that each has as few sequences as possible.
        const Index room = std::max(1, device.multiprocessors / plan.size);
        const Index wanted = divided_up(b, std::min(b, room));
        plan.sequences = static_cast<int>(std::min<Index>(wanted, needs.most_threads / plan.columns));
        for (; plan.sequences >= 1; --plan.sequences) {
            needs.measure(plan);
            if (plan.threads <= needs.most_threads && plan.shared <= device.shared_per_block) break;
        }
        if (plan.sequences < 1) continue;
        Index teams = divided_up(b, plan.sequences);
        // Blocks that wait for each other through global memory must all be resident. Others can run in waves.
        if (plan.kind == TeamKind::grid)
            teams =
                std::min<Index>(teams, static_cast<Index>(needs.resident(plan)) * device.multiprocessors / plan.size);
        if (teams < 1) continue;
        plan.teams = static_cast<int>(teams);
        return plan;
    }
    return std::nullopt;
}

}  // namespace spikefloss
