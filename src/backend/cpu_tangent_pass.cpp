// The tangent pass: a thread, or a team of threads, takes one sequence through all steps, with the basis in cache:
//
//   x = psi Q.membrane;  P = tangent step of Q with W x;  G = P P' in double;  G = R' R;  Q = R^-T P
//
// A second round of the last three follows if the largest R_jj is too many times the smallest, as in lyapunov/qr.cpp.
// If the factorisation of a sequence fails, its step is recorded and the sequence stops.
#include "backend/cpu_tangent_pass.hpp"

#include "backend/cpu_sparse.hpp"

#include <cmath>

namespace spikefloss {
namespace {

// Q = R^-T P is a float product if it loses less than 6 bits of a float, else a substitution in double.
constexpr double largest_growth = 64.0;

struct Shared {
    float *q, *x, *wx;  // [k, stride]; [k, width] twice
    double* g;          // [padded k, padded k]

    Shared(Arena& arena, const PaddedBasis& shape)
        : q(arena.take<float>(shape.size())),
          x(arena.take<float>(shape.k * shape.width)),
          wx(arena.take<float>(shape.k * shape.width)),
          g(arena.take<double>(padded_k(shape.k) * padded_k(shape.k))) {}
    static Index bytes(const PaddedBasis& shape) {
        return 4 * (shape.size() + 2 * shape.k * shape.width) + 8 * padded_k(shape.k) * padded_k(shape.k) + 256;
    }
};

struct Private {
    StepFactors factors;
    double *r, *total, *scratch;  // R of this round, of both rounds [padded k, padded k]; for cpu_basis
    float* inverse;               // of R' [padded k, padded k]

    Private(Arena& arena, const PaddedBasis& shape, const NeuronVectors& neurons)
        : factors(arena, shape, neurons),
          r(arena.take<double>(padded_k(shape.k) * padded_k(shape.k))),
          total(arena.take<double>(padded_k(shape.k) * padded_k(shape.k))),
          scratch(arena.take<double>(basis_scratch(shape.k))),
          inverse(arena.take<float>(padded_k(shape.k) * padded_k(shape.k))) {}
    static Index bytes(const PaddedBasis& shape) {
        return 4 * (StepFactors::floats(shape) + padded_k(shape.k) * padded_k(shape.k)) +
               8 * (2 * padded_k(shape.k) * padded_k(shape.k) + basis_scratch(shape.k)) + 5 * 64;
    }
};

class ForwardPass {
public:
    ForwardPass(const PaddedBasis& shape, const float* panels, const TangentForwardCall& pass, Index b, Index s,
                const Member& member, const Shared& shared, Private& own)
        : shape_(shape),
          panels_(panels),
          pass_(pass),
          b_(b),
          s_(s),
          member_(member),
          shared_(shared),
          own_(own),
          rows_(member.share(shape.k)) {}

    void run() {
        float* q = pass_.q + s_ * shape_.k * shape_.floats();
        std::fill(shared_.q + rows_.begin * shape_.stride, shared_.q + rows_.end * shape_.stride, 0.0f);
        load_rows(shape_, rows_, q, shared_.q);
        for (Index t = 0; t < pass_.steps; ++t) {
            step(pass_.u + (t * b_ + s_) * shape_.N);
            if ((t + 1) % pass_.qr_interval == 0) {
                if (const Index column = qr((t + 1) / pass_.qr_interval - 1)) {
                    if (member_.index > 0) return;
                    pass_.findings.failure[2 * s_] = static_cast<std::int32_t>(pass_.first + t + 1);
                    pass_.findings.failure[2 * s_ + 1] = static_cast<std::int32_t>(column);
                    return;
                }
            }
            q += pass_.q_stride;
            if (pass_.q_stride > 0 || t + 1 == pass_.steps) store_rows(shape_, rows_, shared_.q, q);
        }
    }

private:
    // The rows of this member: Q becomes P.
    void step(const float* u) {
        const Index width = shape_.width, stride = shape_.stride;
        StepFactors& f = own_.factors;
        f.set(pass_.model, pass_.reset, shape_.N, u);
        float* const membranes = shared_.q + shape_.membrane();
        for (Index row = rows_.begin; row < rows_.end; ++row)
#pragma omp simd
            for (Index j = 0; j < width; ++j) shared_.x[row * width + j] = f.psi[j] * membranes[row * stride + j];
        multiply(rows_.end - rows_.begin, width, shape_.N, {shared_.x + rows_.begin * width, width, 1},
                 {panels_, tile, shape_.N * tile}, shared_.wx + rows_.begin * width, width, false);
        for (Index row = rows_.begin; row < rows_.end; ++row) {
            float *current = shared_.q + row * stride, *membrane = membranes + row * stride;
            float* wx = shared_.wx + row * width;
            if (shape_.current())
#pragma omp simd
                for (Index j = 0; j < width; ++j) current[j] = wx[j] = fmaf(f.alpha[j], current[j], wx[j]);
#pragma omp simd
            for (Index j = 0; j < width; ++j)
                membrane[j] = f.reset[j] * fmaf(f.decay[j], membrane[j], f.leak[j] * wx[j]);
        }
    }

    // All rows: P becomes Q. Stores R, the logarithms of its diagonal and the strain. Returns the column of a failure,
    // or 0.
    Index qr(Index index) {
        const Index k = shape_.k, stride = padded_k(k);
        for (int round = 0;; ++round) {
            member_.meet();
            gram(GramSums::float64, k, shape_.D, shape_.stride, shared_.q, shared_.q, shared_.g, own_.scratch,
                 member_.index, member_.members);
            member_.meet();
            std::copy_n(shared_.g, k * stride, own_.r);
            if (const Index column = factorise(k, own_.r)) return column;
            if (round == 0) {
                std::copy_n(own_.r, k * stride, own_.total);
            } else {
                for (Index j = 0; j < k; ++j)
                    if (!(own_.r[j * stride + j] >= qr_lost_rank)) return j + 1;
                multiply_total();
            }
            const auto columns = member_.share(shape_.D, tile);
            if (invert(k, own_.r, own_.inverse, own_.scratch) <= largest_growth)
                divide(k, Transpose::no, own_.inverse, shared_.q, shape_.stride, columns.begin, columns.end);
            else
                substitute(k, own_.r, shared_.q, shape_.stride, columns.begin, columns.end, own_.scratch);
            double low = HUGE_VAL, high = 0.0;
            for (Index j = 0; j < k; ++j) {
                low = std::min(low, own_.total[j * stride + j]);
                high = std::max(high, own_.total[j * stride + j]);
            }
            if (round == 1 || !(high > qr_second_round_ratio * low)) break;
        }
        member_.meet();
        return store_r(index);
    }

    // total = r total, both upper triangular.
    void multiply_total() {
        const Index k = shape_.k, stride = padded_k(k);
        for (Index i = 0; i < k; ++i) {
            double* row = own_.total + i * stride;
            for (Index j = i; j < k; ++j) row[j] *= own_.r[i * stride + i];
            for (Index p = i + 1; p < k; ++p)
#pragma omp simd
                for (Index j = p; j < k; ++j) row[j] += own_.r[i * stride + p] * own_.total[p * stride + j];
        }
    }

    Index store_r(Index index) {
        const Index k = shape_.k, stride = padded_k(k);
        double* r = pass_.r + index * pass_.r_stride + s_ * k * k;
        double* log_r = pass_.log_r + (index * b_ + s_) * k;
        for (Index i = rows_.begin; i < rows_.end; ++i) {
            std::fill_n(r + i * k, i, 0.0);
            std::copy_n(own_.total + i * stride + i, k - i, r + i * k + i);
            log_r[i] = std::log(own_.total[i * stride + i]);
        }
        for (Index i = 0; i < k; ++i)
            if (!std::isfinite(own_.total[i * stride + i]) || own_.total[i * stride + i] <= 0.0) return i + 1;
        if (member_.index == 0)
            pass_.findings.strain[s_] = std::max(pass_.findings.strain[s_], strain(k, own_.total, stride));
        return 0;
    }

    const PaddedBasis& shape_;
    const float* panels_;  // of W'
    const TangentForwardCall& pass_;
    Index b_, s_;
    const Member& member_;
    const Shared& shared_;
    Private& own_;
    Member::Range rows_;
};

}  // namespace

CpuTangentForward::CpuTangentForward(CpuBackend& backend, const TangentPlan& plan, Memory& memory)
    : backend_(backend),
      shape_(plan.basis),
      b_(plan.basis.b),
      scratch_(
          memory,
          (4 * shape_.N * shape_.width + backend_.threads() * (Shared::bytes(shape_) + Private::bytes(shape_))) / 8 +
              16) {}

void CpuTangentForward::run(const TangentForwardCall& call) {
    if (backend_.counting()) return;
    Arena arena(scratch_.data());
    float* panels = arena.take<float>(shape_.N * shape_.width);
    pack_transposed(backend_.threads(), {call.w_rec, shape_.N, shape_.N}, shape_.width / tile, tile, panels);
    std::vector<Shared> shared;
    std::vector<Private> own;
    for (int thread = 0; thread < backend_.threads(); ++thread) {
        shared.emplace_back(arena, shape_);
        own.emplace_back(arena, shape_, call.neurons);
    }
    for_every_team(
        tangent_threads(shape_, backend_.threads(), b_, b_ * call.steps), b_, [&](Index s, const Member& member) {
            ForwardPass(shape_, panels, call, b_, s, member, shared[static_cast<std::size_t>(member.workspace)],
                        own[static_cast<std::size_t>(member.thread)])
                .run();
        });
}

}  // namespace spikefloss
