// The Backend on one NVIDIA GPU. All operations are queued on the backend's own stream. Only copy_out, the get() of
// an arrival, synchronize and deallocate wait for it. The files of this folder implement the class, one subject each.
#pragma once

#include "backend/backend.hpp"
#include "backend/tangent_passes.hpp"
#include "device.hpp"
#include "graph.hpp"

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>
#include <algorithm>

#include <functional>
#include <string_view>
#include <vector>

namespace spikefloss {

class CudaBackend final : public Backend {
public:
    // On `device` (see device.hpp), which becomes this thread's current device. Whole passes of the state with a name
    // in `without` are not taken. Without "loop", a pass that fits is taken even if steps would take less time; without
    // "clusters", the QR is taken operation by operation.
    CudaBackend(const Device& device, Sums sums, Precision precision, std::vector<std::string> without = {});
    ~CudaBackend() override;
    CudaBackend(const CudaBackend&) = delete;
    CudaBackend& operator=(const CudaBackend&) = delete;

    std::string name() const override { return "cuda"; }
    Sums sums() const override { return sums_; }
    // Large, so that one launch can take a whole pass; limited, because several arrays hold the elements of a chunk.
    Index chunk_rows(Index n) const override { return std::max<Index>(1, (Index(1) << 26) / n); }
    const Device& device() const { return device_; }
    cudaStream_t stream() const { return stream_; }
    cublasHandle_t blas() const { return blas_; }
    Precision precision() const { return precision_; }
    bool leaves_out(std::string_view pass) const {
        return std::find(without_.begin(), without_.end(), pass) != without_.end();
    }

    // ---- memory.cpp ----
    void* allocate(std::size_t bytes) override;
    void deallocate(void* data) noexcept override;
    void copy_in(void* destination, const void* host, std::size_t bytes) override;
    void copy_out(void* host, const void* source, std::size_t bytes) override;
    void copy(void* destination, const void* source, std::size_t bytes) override;
    void zero(void* data, std::size_t bytes) override;
    void zero_rows(void* data, std::size_t rows, std::size_t bytes, std::size_t stride) override;
    std::unique_ptr<Arrival> arrival(std::size_t most) override;
    void synchronize() override;
    void* replace(void* data, std::size_t bytes) override;
    std::unique_ptr<Recording> recording() override { return std::make_unique<GraphRecording>(stream_, recordings_); }
    // Destroys all graphs that work on the stream was recorded in. They are recorded again when they are next run.
    void drop_graphs() noexcept;
    std::size_t free_memory() const override;
    void reserve(std::size_t bytes) override;
    // While the host waits for the stream, `work` is called about ten times a second, with the seconds waited. It may
    // throw (a lost rank). The stream is then given up: nothing waits for it any more, and no memory is freed. Null: no
    // call.
    void while_waiting(std::function<void(double)> work) { while_waiting_ = std::move(work); }

    // All operations.
#define SPIKEFLOSS_OPERATION(name, ...) void name(__VA_ARGS__) override
#include "backend/operations.inc"

    // ---- cluster_qr.cu ----
    void factorise_basis(const BasisShape& shape, Index step, float* x, double* g, double* r, double* log_r,
                         const QrFindings& findings) override;
    void factorise_basis_backward(const BasisShape& shape, const float* q, const double* r, const double* weight,
                                  double* g, float* qb) override;

    StatePasses state_passes(const StatePlan& plan, Memory& memory) override;
    TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) override;

private:
    // ---- products.cu ----
    // A factor of a product: [rows, cols] of x, from row `first` on.
    struct Factor {
        Activity x;
        Index first, rows, cols;
        bool turned;  // the transpose is multiplied
    };
    template <class T>
    static Index room(const Factor& factor);
    template <class T>
    Matrix<const T> dense(const Factor& factor, T* to);
    void product(const Factor& a, const Factor& b, SumMatrix out, bool accumulate);
    void add_outer_parts(Matrix<const float> y, const Activity& spikes, SumMatrix gradient);
    // ---- csr.cu ----
    void project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate);
    void project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate);
    void add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient, const SparsePattern& pattern);
    class LaterCopy;
    void wait();
    // Queries `done` until the device has done the work, with while_waiting_.
    template <class Query>
    void wait_for(Query&& done, const char* call);
    // The buffer `which` of page-locked memory, when the last copy from it is complete.
    char* staging(int which);

    Device device_;
    Sums sums_;
    Precision precision_;
    std::vector<std::string> without_;
    cudaStream_t stream_ = nullptr;
    cublasHandle_t blas_ = nullptr;
    cusolverDnHandle_t solver_ = nullptr;
    std::function<void(double)> while_waiting_;
    bool abandoned_ = false;  // while_waiting_ has thrown
    std::vector<GraphRecording*> recordings_;
    struct Staging {
        void* memory = nullptr;        // page-locked, allocated at the first use
        cudaEvent_t copied = nullptr;  // the last copy from it
    };
    Staging staging_[2];
    void* blas_workspace_ = nullptr;
    char *arena_ = nullptr, *arena_end_ = nullptr, *arena_next_ = nullptr;
};

}  // namespace spikefloss
