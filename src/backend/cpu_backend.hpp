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

    void project(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) override;
    void project_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) override;
    void add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient) override;
    void add_column_sums(Matrix<const float> a, SumMatrix c) override;
    void round_sums(const void* in, float* out, Index count) override;
    void sum_squares(const float* x, Index count, double* sum) override;
    void row_sum_squares(Index rows, Index n, const float* a, const float* b, double* out) override;
    void cap_rows(Index rows, Index n, const double* squares, const float* limit, float* a, float* b) override;
    void repeat_row(Index rows, Index n, const float* row, float* out) override;

    void neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n, const float* input,
                     const float* recurrent, const float* i, const float* u, float* i_next, float* u_next) override;
    void pack_spikes(const NeuronModel& model, Index rows, Index n, const float* u, std::uint32_t* bits) override;
    void count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) override;
    void neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                              const float* u_before, float* di, float* du, float* g,
                              const TimeConstantSums* time_constants) override;
    void add_adjoints(const NeuronModel& model, Readout readout, Index rows, Index n, const float* u, const float* back,
                      const float* from_readout, const float* extra, float* du) override;

    StatePasses state_passes(const StatePlan& plan, Memory& memory) override;
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override;

    void readout_filter(Index T, Index b, Index O, const float* kappa, const float* bias, const float* z,
                        float* y) override;
    void readout_filter_backward(Index T, Index b, Index O, const float* kappa, const float* y, const float* dy,
                                 float* dz, SumMatrix d_kappa) override;
    void binary_cross_entropy(Index T, Index b, Index O, const float* y, const float* target, const float* mask,
                              float weight, float* dy, double* result) override;
    void softmax_cross_entropy(Index T, Index b, Index O, const float* y, const std::int32_t* label, const float* mask,
                               float weight, float* dy, double* result) override;

    void tangent_input(const NeuronModel& model, const BasisShape& shape, const float* u, const float* q,
                       float* x) override;
    void tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                      const BasisShape& shape, const float* u, const float* wx, const float* q, float* p) override;
    void tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                               const BasisShape& shape, const float* u, float* a, float* g,
                               const TangentTimeConstants* time_constants) override;
    void tangent_input_backward(const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                                const float* u, const float* q, const float* back, const float* g, float* a,
                                float* e) override;

    void gram(const BasisShape& shape, const float* x, const float* y, double* g) override;
    void cholesky(Index b, Index k, const QrRound& round, double* g, double* r, double* log_r,
                  const QrFindings& findings) override;
    void divide_by_r(Index b, Index k, Index D, const double* r, float* x) override;
    void householder(Index b, Index k, Index D, float* x, double* r, double* log_r, std::int32_t* info) override;
    void qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight, double* qbq,
                     float* qb) override;

    void update(const UpdateRule& rule, Constraint constraint, float gradient_scale, const UpdateView& view) override;

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
