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
    // All operations: nothing is computed.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define SPIKEFLOSS_OPERATION(name, ...) \
    void name(__VA_ARGS__) override {}
#include "backend/operations.inc"
#pragma GCC diagnostic pop

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
