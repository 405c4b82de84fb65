// The Backend on host memory: OpenMP loops over the scalar equations of src/neuron, OpenBLAS and LAPACKE for products
// and factorisations. The files cpu_*.cpp implement it, one subject each.
#pragma once

#include "backend/backend.hpp"
#include "backend/cpu_sparse.hpp"
#include "backend/one_blas_thread.hpp"

#include <algorithm>

namespace spikefloss {

class CpuBackend : public Backend {
public:
    // threads: OpenMP threads of this process, >= 1.
    CpuBackend(int threads, Sums sums);
    ~CpuBackend() override;

    std::string name() const override { return "cpu"; }
    Sums sums() const override { return sums_; }
    int threads() const { return threads_; }
    // Few enough to stay in the caches, many enough that packing W once per chunk costs little.
    Index chunk_rows(Index n) const override { return std::max<Index>(2048, (1 << 20) / n); }

    void* allocate(std::size_t bytes) override;
    void deallocate(void* data) noexcept override;
    bool is_host() const override { return true; }
    void copy_in(void* destination, const void* host, std::size_t bytes) override;
    void copy_out(void* host, const void* source, std::size_t bytes) override { copy(host, source, bytes); }
    void copy(void* destination, const void* source, std::size_t bytes) override;
    void zero(void* data, std::size_t bytes) override;
    void synchronize() override {}
    std::size_t free_memory() const override;

    // All operations.
#define SPIKEFLOSS_OPERATION(name, ...) void name(__VA_ARGS__) override
#include "backend/operations.inc"

    bool packs_inputs(Index rows, Index m, Index n) const override;
    bool pack_inputs(const float* x, Index rows, Index m, Index n, std::uint32_t* bits) override;

    Index packed_size(Product of, Index rows, Index cols) const override;
    void pack(Product of, const Weights& w, float* to) override;

    StatePasses state_passes(const StatePlan& plan, Memory& memory) override;
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override;

    // `lists`: by lists of the entries of x, unless that takes longer.
    void add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient, bool lists);

private:
    // Threads for an operation on so many elements.
    int threads_for(Index elements) const { return elements > 1 << 15 ? threads_ : 1; }

    // cpu_products.cpp
    struct Factor {
        Activity x;
        Index rows, cols;
        bool turned;                      // the transpose of [rows, cols] is multiplied
        const double* widened = nullptr;  // x.values [rows, cols] as doubles, if there is such a copy
    };
    Factor weights_factor(const Weights& w, bool turned) const;
    template <class T>
    static Index dense_bytes(const Factor& factor);
    template <class T>
    Matrix<const T> dense(const Factor& factor, Arena& arena);
    // lists: bytes for those that are tried first.
    Arena product_scratch(const Factor& a, const Factor& b, SumMatrix out, Index lists);
    void product(Arena arena, const Factor& a, const Factor& b, SumMatrix out, bool accumulate);
    // cpu_csr.cpp
    void project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate);
    void project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate);
    // cpu_csr_outer.cpp
    void add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient, const SparsePattern& pattern);

    OneBlasThread blas_;  // products are split over OpenMP threads
    int threads_;
    Sums sums_;
};

}  // namespace spikefloss
