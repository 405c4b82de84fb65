// The Backend on host memory: OpenMP loops over the scalar equations of src/neuron, OpenBLAS and LAPACKE for products
// and factorisations. The files cpu_*.cpp implement it, one subject each.
#pragma once

#include "backend/backend.hpp"
#include "backend/cpu_sparse.hpp"

#include <algorithm>
#include <vector>

namespace spikefloss {

class CpuBackend : public Backend {
public:
    // threads: OpenMP threads of this process, >= 1.
    CpuBackend(int threads, Sums sums);

    std::string name() const override { return "cpu"; }
    Sums sums() const override { return sums_; }
    int threads() const { return threads_; }
    // Few enough to stay in the caches, many enough that packing W once per chunk costs little.
    Index chunk_rows(Index n) const override { return std::max<Index>(2048, (1 << 20) / n); }

    void* allocate(std::size_t bytes) override;
    void deallocate(void* data) noexcept override;
    void copy_in(void* destination, const void* host, std::size_t bytes) override { copy(destination, host, bytes); }
    void copy_out(void* host, const void* source, std::size_t bytes) override { copy(host, source, bytes); }
    void copy(void* destination, const void* source, std::size_t bytes) override;
    void zero(void* data, std::size_t bytes) override;
    void synchronize() override {}
    std::size_t free_memory() const override;

    // All operations.
#define SPIKEFLOSS_OPERATION(name, ...) void name(__VA_ARGS__) override
#include "backend/operations.inc"

    StatePasses state_passes(const StatePlan& plan, Memory& memory) override;
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override;

    // cpu_sparse.cpp: add_outer by lists of the entries of x. Returns false if it takes less time by BLAS.
    bool add_outer_listed(Matrix<const float> y, const Activity& x, Matrix<float> gradient);

private:
    // cpu_products.cpp
    struct Factor {
        Activity x;
        Index rows, cols;
        bool turned;  // the transpose of [rows, cols] is multiplied
    };
    template <class T>
    Matrix<const T> dense(const Factor& factor, int which);
    void product(const Factor& a, const Factor& b, SumMatrix out, bool accumulate);
    // cpu_sparse.cpp
    struct SparseParts {
        SparseRows part[8];
        Index count;
    };
    bool list_parts(const Activity& x, Index rows, Index cols, SparseParts& parts);
    bool list_blocks(const Activity& bits, Index rows, Index cols, SparseRows& list);
    bool project_listed(const Weights& w, const Activity& x, Matrix<float> out);

    // Scratch of at least `count` doubles, kept between calls so that no step allocates.
    double* scratch(int which, Index count);

    int threads_;
    Sums sums_;
    std::vector<double> scratch_[6];
};

}  // namespace spikefloss
