// The adjoint of cpu_tangent_pass.cpp: from A, the adjoint of the last basis, to that of the first. Per step
//
//   QR      C = diag(weight) - (Q'A made symmetric from its lower triangle);  A <- (A + Q C) R^-T
//   step    A.membrane *= 1 - s;  g = A.current + (1 - beta) A.membrane;  back = W' g;  dW += g x'
//           e += psi' sum over k of back Q.membrane;  A.current = alpha g;  A.membrane = beta A.membrane + psi back
//
// (The lower triangle of R Rb' in lyapunov/qr.hpp is diag(weight), for Rb = diag(weight / R_jj) and R is upper.)
#include "backend/cpu_tangent_pass.hpp"

#include <cmath>

namespace spikefloss {
namespace {

// Parts that each have their own sum of dW. They do not depend on the number of threads, so results do not either.
constexpr Index most_parts = 16;

// Steps whose x and g are kept, so that dW is read and written once for their rows.
Index kept_steps(Index k) { return std::max<Index>(1, 32 / k); }

struct Shared {
    float *q, *a;  // [k, stride]
    // Twice, because one member may be a step ahead: of kept steps [kept, k, width]; of a step [k, width]
    float *x[2], *g[2], *back[2];
    double* gram;  // [padded k, padded k]

    Shared(Arena& arena, const PaddedBasis& shape)
        : q(arena.take<float>(shape.size())), a(arena.take<float>(shape.size())) {
        for (int half = 0; half < 2; ++half) {
            for (float** array : {x, g}) array[half] = arena.take<float>(kept_steps(shape.k) * shape.k * shape.width);
            back[half] = arena.take<float>(shape.k * shape.width);
        }
        gram = arena.take<double>(padded_k(shape.k) * padded_k(shape.k));
        std::fill_n(q, shape.size(), 0.0f);
        std::fill_n(a, shape.size(), 0.0f);
    }
    static Index bytes(const PaddedBasis& shape) {
        return 4 * (2 * shape.size() + (4 * kept_steps(shape.k) + 2) * shape.k * shape.width) +
               8 * padded_k(shape.k) * padded_k(shape.k) + 10 * 64;
    }
};

struct Private {
    StepFactors factors;
    float *sum, *c, *inverse;  // [width]; C [k, k]; inverse of R' [padded k, padded k]
    double *r, *scratch;       // R [padded k, padded k]; for cpu_basis

    Private(Arena& arena, const PaddedBasis& shape, const NeuronVectors& neurons)
        : factors(arena, shape, neurons),
          sum(arena.take<float>(shape.width)),
          c(arena.take<float>(shape.k * shape.k)),
          inverse(arena.take<float>(padded_k(shape.k) * padded_k(shape.k))),
          r(arena.take<double>(padded_k(shape.k) * padded_k(shape.k))),
          scratch(arena.take<double>(basis_scratch(shape.k))) {}
    static Index bytes(const PaddedBasis& shape) {
        const Index square = padded_k(shape.k) * padded_k(shape.k);
        return 4 * (StepFactors::floats(shape) + shape.width + shape.k * shape.k + square) +
               8 * (square + basis_scratch(shape.k)) + 5 * 64;
    }
};

class BackwardPass {
public:
    BackwardPass(const PaddedBasis& shape, const float* panels, const TangentBackwardCall& pass, Index b, Index s,
                 const Member& member, const Shared& shared, Private& own, float* dw)
        : shape_(shape),
          panels_(panels),
          pass_(pass),
          b_(b),
          s_(s),
          member_(member),
          shared_(shared),
          own_(own),
          dw_(dw),
          rows_(member.share(shape.k)),
          first_(s * shape.k * shape.floats()) {}

    void run() {
        load_rows(shape_, rows_, pass_.a + first_, shared_.a);
        for (Index t = pass_.steps; t-- > 0;) {
            if ((t + 1) % pass_.qr_interval == 0) qr((t + 1) / pass_.qr_interval - 1, t + 1);
            step(t);
        }
        store_rows(shape_, rows_, shared_.a, pass_.a + first_);
        member_.meet();  // the next sequence uses the same scratch
    }

private:
    const float* q(Index t) const { return pass_.q + t * pass_.q_stride + first_; }  // [k, D] of this sequence

    // A, the adjoint of Q(t), becomes the adjoint of the matrix that was factorised.
    void qr(Index index, Index t) {
        const Index k = shape_.k;
        load_rows(shape_, rows_, q(t), shared_.q);
        member_.meet();
        gram(GramSums::float32, k, shape_.D, shape_.stride, shared_.q, shared_.a, shared_.gram, own_.scratch,
             member_.index, member_.members);
        member_.meet();
        set_c(index >= pass_.first_counted ? pass_.weight + s_ * k : nullptr);
        const auto columns = member_.share(shape_.D, tile);
        multiply(k, columns.end - columns.begin, k, {own_.c, k, 1}, {shared_.q + columns.begin, shape_.stride},
                 shared_.a + columns.begin, shape_.stride, true);
        pad(k, pass_.r + (index * b_ + s_) * k * k, own_.r);
        invert(k, own_.r, own_.inverse, own_.scratch);
        divide(k, Transpose::yes, own_.inverse, shared_.a, shape_.stride, columns.begin, columns.end);
        member_.meet();
    }

    void set_c(const double* weight) {
        const Index k = shape_.k, stride = padded_k(k);
        for (Index i = 0; i < k; ++i) {
            const double* row = shared_.gram + i * stride;
            own_.c[i * k + i] = static_cast<float>((weight ? weight[i] : 0.0) - row[i]);
            for (Index j = i + 1; j < k; ++j) own_.c[i * k + j] = own_.c[j * k + i] = static_cast<float>(-row[j]);
        }
    }

    void step(Index t) {
        const Index size = shape_.k * shape_.width, most = kept_steps(shape_.k), number = pass_.steps - 1 - t;
        const bool two = member_.members > 1;
        float *const xs = shared_.x[two ? number / most % 2 : 0], *const gs = shared_.g[two ? number / most % 2 : 0];
        float *const x = xs + number % most * size, *const g = gs + number % most * size;
        float* const back = shared_.back[two ? number % 2 : 0];
        const float *u = pass_.u + (t * b_ + s_) * shape_.N, *membranes = q(t) + shape_.floats() - shape_.N;
        own_.factors.set(pass_.model, pass_.reset, shape_.N, u);
        if (t > 0) prefetch_rows(t - 1);
        step_rows(membranes, x, g, back);
        member_.meet();
        const auto columns = member_.share(shape_.N, tile);
        add_through_psi(u, membranes, back, columns, pass_.e + (t * b_ + s_) * shape_.N);
        const Index kept = number % most + 1;
        if (kept < most && t > 0) return;
        multiply(columns.end - columns.begin, shape_.width, kept * shape_.k, {gs + columns.begin, 1, shape_.width},
                 {xs, shape_.width}, dw_ + columns.begin * shape_.width, shape_.width, true);
    }

    // The bases are no longer in a cache, so they are prefetched one step early.
    void prefetch_rows(Index t) const {
        for (Index j = rows_.begin * shape_.floats(); j < rows_.end * shape_.floats(); j += 16)
            __builtin_prefetch(q(t) + j);
    }

    // The rows of this member in x, g and back. A becomes the adjoint of Q(t), whose membranes begin at q.
    void step_rows(const float* q, float* x, float* g, float* back) {
        const Index width = shape_.width, N = shape_.N;
        const StepFactors& f = own_.factors;
        for (Index row = rows_.begin; row < rows_.end; ++row) {
            float *current = shared_.a + row * shape_.stride, *membrane = current + shape_.membrane();
#pragma omp simd
            for (Index j = 0; j < N; ++j) x[row * width + j] = f.psi[j] * q[row * shape_.floats() + j];
            std::fill(x + row * width + N, x + (row + 1) * width, 0.0f);
#pragma omp simd
            for (Index j = 0; j < width; ++j) {
                membrane[j] *= f.reset[j];
                g[row * width + j] = f.leak[j] * membrane[j];
            }
            if (shape_.current())
#pragma omp simd
                for (Index j = 0; j < width; ++j) {
                    const float sum = fmaf(f.leak[j], membrane[j], current[j]);
                    g[row * width + j] = sum;
                    current[j] = f.alpha[j] * sum;
                }
        }
        multiply(rows_.end - rows_.begin, width, N, {g + rows_.begin * width, width, 1}, {panels_, tile, N * tile},
                 back + rows_.begin * width, width, false);
        for (Index row = rows_.begin; row < rows_.end; ++row) {
            float* membrane = shared_.a + row * shape_.stride + shape_.membrane();
#pragma omp simd
            for (Index j = 0; j < width; ++j)
                membrane[j] = fmaf(f.decay[j], membrane[j], f.psi[j] * back[row * width + j]);
        }
    }

    // e += psi' sum over k of back q, for the columns of this member.
    void add_through_psi(const float* u, const float* q, const float* back, Member::Range columns, float* e) {
        std::fill(own_.sum + columns.begin, own_.sum + columns.end, 0.0f);
        for (Index row = 0; row < shape_.k; ++row)
#pragma omp simd
            for (Index j = columns.begin; j < columns.end; ++j)
                own_.sum[j] = fmaf(back[row * shape_.width + j], q[row * shape_.floats() + j], own_.sum[j]);
        with_surrogate(pass_.model.surrogate, [&](auto surrogate) {
            using S = decltype(surrogate);
#pragma omp simd
            for (Index j = columns.begin; j < columns.end; ++j)
                e[j] = fmaf(S::derivative(u[j] - pass_.model.threshold, pass_.model.sharpness), own_.sum[j], e[j]);
        });
    }

    const PaddedBasis& shape_;
    const float* panels_;  // of W
    const TangentBackwardCall& pass_;
    Index b_, s_;
    const Member& member_;
    const Shared& shared_;
    Private& own_;
    float* dw_;  // [N, width]
    Member::Range rows_;
    Index first_;  // where this sequence's vectors begin in a basis
};

}  // namespace

CpuTangentBackward::CpuTangentBackward(CpuBackend& backend, const TangentPlan& plan, Memory& memory)
    : backend_(backend),
      shape_(plan.basis),
      b_(plan.basis.b),
      scratch_(memory, (4 * (std::min(b_, most_parts) + 1) * shape_.N * shape_.width +
                        backend_.threads() * (Shared::bytes(shape_) + Private::bytes(shape_))) /
                               8 +
                           16) {}

void CpuTangentBackward::run(const TangentBackwardCall& call) {
    if (backend_.counting()) return;
    const Index N = shape_.N, parts = std::min(b_, most_parts), size = N * shape_.width;
    Arena arena(scratch_.data());
    float* panels = arena.take<float>(size);
    float* gradients = arena.take<float>(parts * size);
    pack_panels(backend_.threads(), {call.w_rec, N, N}, panels);
    std::fill_n(gradients, parts * size, 0.0f);
    std::vector<Shared> shared;
    std::vector<Private> own;
    for (int thread = 0; thread < backend_.threads(); ++thread) {
        shared.emplace_back(arena, shape_);
        own.emplace_back(arena, shape_, call.neurons);
    }
    for_every_team(tangent_threads(shape_, backend_.threads(), parts, b_ * call.steps), parts,
                   [&](Index part, const Member& member) {
                       for (Index s = b_ * part / parts; s < b_ * (part + 1) / parts; ++s)
                           BackwardPass(shape_, panels, call, b_, s, member,
                                        shared[static_cast<std::size_t>(member.workspace)],
                                        own[static_cast<std::size_t>(member.thread)], gradients + part * size)
                               .run();
                   });
    auto* total = static_cast<float*>(call.d_w_rec.data);
    for (Index part = 0; part < parts; ++part)
        for (Index post = 0; post < N; ++post)
#pragma omp simd
            for (Index pre = 0; pre < N; ++pre)
                total[post * call.d_w_rec.stride + pre] += gradients[part * size + post * shape_.width + pre];
}

}  // namespace spikefloss
