// A Backend that holds no memory and computes nothing; it only counts bytes. If the objects of a run are made on it,
// they give the memory that a real backend needs. If they run one step, it gives the scratch of the operations, and the
// data that is sent. Its memory is not the host's, so it counts the inputs of a batch, which a CPU uses where they are.
#pragma once

#include "backend/state_passes.hpp"
#include "backend/tangent_passes.hpp"

#include <cstring>
#include <limits>
#include <string>

namespace spikefloss {

class CountingBackend final : public Backend {
public:
    // What copy_out gives: results whose bytes are all 0 or 1, which pass all checks of a step. With 1 a QR is taken a
    // second time, carefully, and by Householder.
    enum class Results : char { zeros = 0, ones = 1 };

    // Sums, chunks, passes and scratch as those of `like`.
    explicit CountingBackend(Backend& like, Results results = Results::zeros) : like_(like), results_(results) {}

    // The bytes allocated until now. Each array is a multiple of 256 bytes, as on a GPU.
    std::size_t bytes() const { return bytes_; }
    // The largest scratch of an operation until now.
    std::size_t scratch() const { return scratch_; }

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

    void copy_out(void* host, const void*, std::size_t bytes) override {
        if (bytes) std::memset(host, static_cast<int>(results_), bytes);
    }
    bool packs_inputs(Index rows, Index m, Index n) const override { return like_.packs_inputs(rows, m, n); }
    Index packed_size(Product of, Index rows, Index cols) const override { return like_.packed_size(of, rows, cols); }
    // All operations: nothing is computed, scratch is counted.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define SPIKEFLOSS_OPERATION(name, ...) \
    void name(__VA_ARGS__) override {}
#define SPIKEFLOSS_SCRATCH_OPERATION(name, arguments, ...) \
    void name(__VA_ARGS__) override {                      \
        count_scratch([&] { like_.name arguments; });      \
    }
#include "backend/operations.inc"
#pragma GCC diagnostic pop
    void factorise_basis(const BasisShape& shape, Index step, float* x, double* g, double* r, double* log_r,
                         const QrFindings& findings) override {
        count_scratch([&] { like_.factorise_basis(shape, step, x, g, r, log_r, findings); });
    }
    void factorise_basis_backward(const BasisShape& shape, const float* q, const double* r, const double* weight,
                                  double* g, float* qb) override {
        count_scratch([&] { like_.factorise_basis_backward(shape, q, r, weight, g, qb); });
    }

    // The choice of `like`. The passes have their scratch here; when they run, the scratch of their operations is
    // counted.
    StatePasses state_passes(const StatePlan& plan, Memory& memory) override {
        StatePasses passes = like_.state_passes(plan, memory);
        only_count<const StateForwardCall&>(passes.forward.pass);
        only_count<const StateBackwardCall&, const std::function<void()>&>(passes.backward.pass);
        return passes;
    }
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override {
        TangentPasses passes = like_.tangent_passes(plan, memory);
        only_count<const TangentForwardCall&>(passes.forward.pass);
        only_count<const TangentBackwardCall&>(passes.backward.pass);
        return passes;
    }

private:
    template <class Work>
    void count_scratch(Work&& work) {
        scratch_ = std::max(scratch_, like_.scratch_of(work));
    }
    template <class... Arguments, class Pass>
    void only_count(std::unique_ptr<Pass>& pass) {
        struct Counted final : Pass {
            Counted(CountingBackend& by, std::unique_ptr<Pass> of) : backend(by), kept(std::move(of)) {}
            void run(Arguments... arguments) override {
                backend.count_scratch([&] { kept->run(arguments...); });
            }
            CountingBackend& backend;
            std::unique_ptr<Pass> kept;
        };
        if (pass) pass = std::make_unique<Counted>(*this, std::move(pass));
    }

    Backend& like_;
    Results results_;
    std::size_t bytes_ = 0, scratch_ = 0;
};

}  // namespace spikefloss
