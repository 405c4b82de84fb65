// The tape of spikes on every grid: what each shard reads of the neurons of all others, as factors of products, as a
// raster and as a rate.
#include "network/spike_tape.hpp"

#include "backend/instruction_sets.hpp"
#include "core/random.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

namespace spikefloss {
namespace {

using namespace testing_support;

constexpr Index T = 4, B = 7;

// Whether neuron j fires at step t of sequence s.
bool fires(Index t, Index s, Index j) {
    return normal(5, Stream::test, static_cast<std::uint32_t>(t), static_cast<std::uint32_t>(s),
                  static_cast<std::uint32_t>(j)) > 0.5;
}

// The spikes of steps [first, first + steps) as [steps, b, columns].
std::vector<float> expected(Index first, Index steps, BlockRange sequences, BlockRange columns) {
    std::vector<float> spikes;
    for (Index t = first; t < first + steps; ++t)
        for (Index s = sequences.begin; s < sequences.end; ++s)
            for (Index j = columns.begin; j < columns.end; ++j) spikes.push_back(fires(t, s, j) ? 1.0f : 0.0f);
    return spikes;
}

// Sizes: not divisible by the shards; one neuron per shard; more than one word of bits with a ragged end.
TEST(SpikeTape, EveryShardReadsAllNeurons) {
    on_every_grid([](const ProcessGrid& grid) {
        const Index P = grid.shape().neuron_shards;
        for (const Index N : {Index{7}, P, Index{67}, Index{200}}) {
            SCOPED_TRACE(testing::Message() << "N " << N);
            const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
            Backend& backend = *made;
            const BlockRange mine = grid.sequences_of(B), neurons = grid.neurons_of(N);
            SpikeTape tape(backend, grid, N, T, mine.size());
            NeuronModel model;
            model.threshold = 0.25f;
            for (Index t = 0; t <= T; ++t) {
                std::vector<float> membrane = expected(t, 1, mine, neurons);
                for (float& u : membrane) u = u > 0.0f ? 0.3f : 0.25f;  // a spike needs more than the threshold
                const Buffer<float> u(backend, membrane);
                tape.write(model, {}, t, {nullptr, u.data()});
            }
            double spikes = 0.0;
            for (const float s : expected(1, T, {0, B}, {0, N})) spikes += s;
            EXPECT_DOUBLE_EQ(tape.rate(), spikes / static_cast<double>(T * B * N));
            const std::vector<Activity> shards = tape.at(1);
            ASSERT_EQ(static_cast<Index>(shards.size()), P);
            for (Index p = 0; p < P; ++p) {
                const Index n = block_range(N, P, p).size();
                const auto read = [&](const Activity& x) {
                    std::vector<float> floats;
                    for (Index row = 0; row < T * mine.size(); ++row)
                        for (Index j = 0; j < n; ++j)
                            floats.push_back(static_cast<float>(x.bits[x.before(row) + j / 32] >> (j % 32) & 1u));
                    return floats;
                };
                const std::vector<float> wanted = expected(1, T, mine, block_range(N, P, p));
                EXPECT_TRUE(all_equal(read(shards[static_cast<std::size_t>(p)]), wanted)) << "shard " << p;
                if (p == grid.neuron_shard()) {
                    EXPECT_TRUE(all_equal(read(tape.mine(1)), wanted));
                }
            }
            std::vector<Index> some;  // every third neuron
            for (Index j = 0; j < N; j += 3) some.push_back(j);
            const BlockRange last = {mine.size() - 1, mine.size()};
            const std::vector<unsigned char> raster = tape.raster(last, some);
            std::size_t at = 0;
            for (Index t = 0; t <= T; ++t)
                for (const Index j : some)
                    EXPECT_EQ(raster.at(at++), fires(t, mine.end - 1, j)) << "step " << t << ", neuron " << j;
            EXPECT_EQ(at, raster.size());
        }
    });
}

}  // namespace
}  // namespace spikefloss
