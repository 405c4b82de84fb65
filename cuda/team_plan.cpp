#include "team_plan.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int largest_cluster = 8;  // every device with clusters supports this size

Index divided_up(Index a, Index b) { return (a + b - 1) / b; }

// Microseconds until all blocks of a team have met.
double meeting_time(TeamKind kind) {
    switch (kind) {
        case TeamKind::block: return 0.03;
        case TeamKind::cluster: return 0.4;
        default: return 1.3;
    }
}

double elements(Index N) { return static_cast<double>(N) * static_cast<double>(N); }

}  // namespace

// W at 3.0 TB/s as four digits of 8 bits or three parts of 16, at 2.2 TB/s as floats. The rates of products are 800
// TOP/s (8 operations a weight and sequence forwards, 20 backwards), 400 TFLOP/s (6) and 40 TFLOP/s (2).
double digits_forward_time(Index N, Index b) {
    return 10.0 + std::max(4.0 * elements(N) / 3.0e6, 8.0 * elements(N) * static_cast<double>(b) / 8.0e8);
}
double bf16_forward_time(Index N, Index b) {
    return 10.0 + std::max(6.0 * elements(N) / 3.0e6, 6.0 * elements(N) * static_cast<double>(b) / 4.0e8);
}
double float_backward_time(Index N, Index b) {
    return 12.0 + std::max(4.0 * elements(N) / 2.2e6, 2.0 * elements(N) * static_cast<double>(b) / 4.0e7);
}
double digits_backward_time(Index N, Index b) {
    return 20.0 + std::max(4.0 * elements(N) / 3.0e6, 20.0 * elements(N) * static_cast<double>(b) / 8.0e8);
}
double stepwise_forward_time(Index N, Index b) { return std::min(digits_forward_time(N, b), bf16_forward_time(N, b)); }
double stepwise_backward_time(Index N, Index b) {
    return std::min(float_backward_time(N, b), digits_backward_time(N, b));
}

std::optional<TeamPlan> plan_teams(const Device& device, Index N, Index b, const TeamNeeds& needs) {
    const int words = static_cast<int>(divided_up(N, 32));
    if (words < 1 || b < 1 || N > 65504) return std::nullopt;  // neurons are listed as 16-bit numbers
    std::optional<TeamPlan> best;
    double least = needs.stepwise;
    int last_size = 0;
    for (int words_per_block = words; words_per_block >= 1; --words_per_block) {
        const int size = static_cast<int>(divided_up(words, words_per_block));
        if (size == last_size || 32 * words_per_block > needs.most_threads) continue;
        last_size = size;
        TeamPlan plan;
        plan.size = size;
        plan.columns = 32 * static_cast<int>(divided_up(words, size));  // the smallest slices of this team size
        plan.kind = size == 1                                      ? TeamKind::block
                    : device.clusters() && size <= largest_cluster ? TeamKind::cluster
                                                                   : TeamKind::grid;
        const Index most_sequences = std::min<Index>(b, needs.most_threads / plan.columns);
        for (plan.sequences = 1; plan.sequences <= most_sequences; ++plan.sequences) {
            needs.measure(plan);
            if (plan.threads > needs.most_threads || plan.shared > device.shared_per_block) continue;
            const Index groups = divided_up(b, plan.sequences), at_once = needs.teams_at_once(plan);
            if (at_once < 1) continue;
            // Blocks that wait for each other through global memory must all be resident, so their teams take several
            // groups in turn. Other teams can run in waves.
            plan.teams = static_cast<int>(plan.kind == TeamKind::grid ? std::min(groups, at_once) : groups);
            plan.rounds = static_cast<int>(divided_up(groups, at_once));
            plan.microseconds = plan.rounds * (meeting_time(plan.kind) + needs.step(plan));
            if (plan.microseconds >= least) continue;
            least = plan.microseconds;
            best = plan;
        }
    }
    return best;
}

}  // namespace spikefloss
