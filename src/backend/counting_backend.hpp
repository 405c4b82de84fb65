// A Backend that holds no memory and computes nothing; it only counts the bytes of allocations. If the objects of a run
// are made on it, they give the memory that a real backend needs. If they run one step, it gives the data that is sent.
#pragma once

#include "backend/state_passes.hpp"
#include "backend/tangent_passes.hpp"

#include <cstring>
#include <limits>
#include <string>

namespace spikefloss {

class CountingBackend final : public Backend {
public:
    // Sums and chunks as those of `like`.
    explicit CountingBackend(Backend& like) : like_(like) {}

    // The bytes allocated until now. Each array is a multiple of 256 bytes, as on a GPU.
    std::size_t bytes() const { return bytes_; }

    std::string name() const override { return "counting"; }
    Sums sums() const override { return like_.sums(); }
    Index chunk_rows(Index n) const override { return like_.chunk_rows(n); }
    // Every array has its own address, without memory behind it.
    void* allocate(std::size_t bytes) override {
        bytes_ += (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0);
        return reinterpret_cast<void*>(bytes_);  // NOLINT(performance-no-int-to-ptr): never read
    }
    void deallocate(void*) noexcept override {}
    void copy_in(void*, const void*, std::size_t) override {}
    void copy(void*, const void*, std::size_t) override {}
    void zero(void*, std::size_t) override {}
    void synchronize() override {}
    std::size_t free_memory() const override { return std::numeric_limits<std::size_t>::max(); }

    // Every result is 0, which passes all checks of a step.
    void copy_out(void* host, const void*, std::size_t bytes) override {
        if (bytes) std::memset(host, 0, bytes);
    }
    void project(const Weights&, const Activity&, SumMatrix, bool) override {}
    void project_transposed(const Weights&, Matrix<const float>, SumMatrix, bool) override {}
    void add_outer(Matrix<const float>, const Activity&, SumMatrix) override {}
    void add_column_sums(Matrix<const float>, SumMatrix) override {}
    void round_sums(const void*, float*, Index) override {}
    void sum_squares(const float*, Index, double*) override {}
    void row_sum_squares(Index, Index, const float*, const float*, double*) override {}
    void cap_rows(Index, Index, const double*, const float*, float*, float*) override {}
    void repeat_row(Index, Index, const float*, float*) override {}
    void neuron_step(const NeuronModel&, const NeuronVectors&, Index, Index, const float*, const float*, const float*,
                     const float*, float*, float*) override {}
    void pack_spikes(const NeuronModel&, Index, Index, const float*, std::uint32_t*) override {}
    void count_spikes(Index, Index, const std::uint32_t*, Index, double*) override {}
    void neuron_step_backward(const NeuronModel&, const NeuronVectors&, Index, Index, const float*, float*, float*,
                              float*, const TimeConstantSums*) override {}
    void add_adjoints(const NeuronModel&, Readout, Index, Index, const float*, const float*, const float*, const float*,
                      float*) override {}
    // The choice of `like`. The passes take their scratch here and do nothing.
    StatePasses state_passes(const StatePlan& plan, Memory& memory) override {
        StatePasses passes = like_.state_passes(plan, memory);
        silence<const StateForwardCall&>(passes.forward.pass);
        silence<const StateBackwardCall&, const std::function<void()>&>(passes.backward.pass);
        return passes;
    }
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override {
        TangentPasses passes = like_.tangent_passes(plan, memory);
        silence<const TangentForwardCall&>(passes.forward.pass);
        silence<const TangentBackwardCall&>(passes.backward.pass);
        return passes;
    }
    void readout_filter(Index, Index, Index, const float*, const float*, const float*, float*) override {}
    void readout_filter_backward(Index, Index, Index, const float*, const float*, const float*, float*,
                                 SumMatrix) override {}
    void binary_cross_entropy(Index, Index, Index, const float*, const float*, const float*, float, float*,
                              double*) override {}
    void softmax_cross_entropy(Index, Index, Index, const float*, const std::int32_t*, const float*, float, float*,
                               double*) override {}
    void tangent_input(const NeuronModel&, const BasisShape&, const float*, const float*, float*) override {}
    void tangent_step(const NeuronModel&, JacobianReset, const NeuronVectors&, const BasisShape&, const float*,
                      const float*, const float*, float*) override {}
    void tangent_step_backward(const NeuronModel&, JacobianReset, const NeuronVectors&, const BasisShape&, const float*,
                               float*, float*, const TangentTimeConstants*) override {}
    void tangent_input_backward(const NeuronModel&, const NeuronVectors&, const BasisShape&, const float*, const float*,
                                const float*, const float*, float*, float*) override {}
    void gram(const BasisShape&, const float*, const float*, double*) override {}
    void cholesky(Index, Index, const QrRound&, double*, double*, double*, const QrFindings&) override {}
    void divide_by_r(Index, Index, Index, const double*, float*) override {}
    void householder(Index, Index, Index, float*, double*, double*, std::int32_t*) override {}
    void qr_backward(Index, Index, Index, const float*, const double*, const double*, double*, float*) override {}
    void update(const UpdateRule&, Constraint, float, const UpdateView&) override {}

private:
    // The pass keeps its scratch and computes nothing.
    template <class... Arguments, class Pass>
    static void silence(std::unique_ptr<Pass>& pass) {
        struct Silent final : Pass {
            explicit Silent(std::unique_ptr<Pass> of) : kept(std::move(of)) {}
            void run(Arguments...) override {}
            std::unique_ptr<Pass> kept;
        };
        if (pass) pass = std::make_unique<Silent>(std::move(pass));
    }

    Backend& like_;
    std::size_t bytes_ = 0;
};

}  // namespace spikefloss
