#include "lyapunov/delay_lines.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

using Matrices = DelayLines::Matrices;

// Calls work(first element) for each [k, k] matrix.
template <class Work>
void each_matrix(Index b, Index k, Work&& work) {
    for (Index s = 0; s < b; ++s) work(s * k * k);
}

Index index(Index k, Index row, Index col) { return row * k + col; }

enum class Turned { neither, first, second };

// a b, a' b or a b' of each sequence.
Matrices product(const Matrices& a, const Matrices& b, Index sequences, Index k, Turned turned) {
    Matrices c(a.size(), 0.0);
    each_matrix(sequences, k, [&](Index at) {
        const double *x = a.data() + at, *y = b.data() + at;
        double* out = c.data() + at;
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j) {
                double sum = 0.0;
                for (Index l = 0; l < k; ++l)
                    sum += x[turned == Turned::first ? index(k, l, i) : index(k, i, l)] *
                           y[turned == Turned::second ? index(k, j, l) : index(k, l, j)];
                out[index(k, i, j)] = sum;
            }
    });
    return c;
}

void add(Matrices& to, const Matrices& more) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += more[i];
}

// c <- c r^-1 of each sequence, r upper triangular.
void divide_right(Matrices& c, const Matrices& r, Index sequences, Index k) {
    each_matrix(sequences, k, [&](Index at) {
        for (Index i = 0; i < k; ++i) {
            double* row = c.data() + at + i * k;
            for (Index j = 0; j < k; ++j) {
                double sum = row[j];
                for (Index l = 0; l < j; ++l) sum -= row[l] * r[static_cast<std::size_t>(at + index(k, l, j))];
                row[j] = sum / r[static_cast<std::size_t>(at + index(k, j, j))];
            }
        }
    });
}

// x of r x = c of each sequence, r upper triangular.
Matrices solve_upper(const Matrices& r, Matrices c, Index sequences, Index k) {
    each_matrix(sequences, k, [&](Index at) {
        for (Index j = 0; j < k; ++j)
            for (Index i = k; i-- > 0;) {
                double sum = c[static_cast<std::size_t>(at + index(k, i, j))];
                for (Index l = i + 1; l < k; ++l)
                    sum -= r[static_cast<std::size_t>(at + index(k, i, l))] *
                           c[static_cast<std::size_t>(at + index(k, l, j))];
                c[static_cast<std::size_t>(at + index(k, i, j))] =
                    sum / r[static_cast<std::size_t>(at + index(k, i, i))];
            }
    });
    return c;
}

}  // namespace

DelayLines::DelayLines(Backend& backend, const ParameterLayout& layout, const BasisShape& shape, Index rows_of_all,
                       bool keeps_adjoint)
    : backend_(backend), shape_(shape), rows_of_all_(rows_of_all), keeps_adjoint_(keeps_adjoint) {
    const Topology& topology = layout.topology();
    const std::vector<Index> depths = topology.depths();
    const BlockRange mine = layout.neurons();
    for (std::size_t p = 0; p < depths.size(); ++p) {
        const BlockRange range = topology.populations[p].range();
        const Index begin = std::max(range.begin, mine.begin), end = std::min(range.end, mine.end);
        depth_ = std::max(depth_, depths[p]);
        if (depths[p] > 0 && begin < end) ranges_.push_back({begin - mine.begin, end - mine.begin, depths[p]});
    }
    capacity_ = 2 * depth_ + 2;
    if (depth_ == 0) return;
    sigma_ = Buffer<float>(backend, capacity_ * rows_of_all);
    adjoint_ = Buffer<float>(backend, keeps_adjoint ? (depth_ + 1) * shape.rows() * shape.n : 0);
    matrices_ = Buffer<double>(backend, shape.rows() * shape.k);
    marked_ = Buffer<float>(backend, depth_ * rows_of_all);
}

Matrices DelayLines::identity() const {
    Matrices one(static_cast<std::size_t>(shape_.rows() * shape_.k), 0.0);
    each_matrix(shape_.b, shape_.k, [&](Index at) {
        for (Index i = 0; i < shape_.k; ++i) one[static_cast<std::size_t>(at + index(shape_.k, i, i))] = 1.0;
    });
    return one;
}

Matrices DelayLines::divided_by(const Matrices& r, Matrices c) const {
    return solve_upper(r, std::move(c), shape_.b, shape_.k);
}

Matrices DelayLines::gram(const float* x, const float* y, Index begin, Index end) {
    const BasisShape rows{shape_.b, shape_.k, shape_.n, false};
    const ColumnRange columns{begin, end};
    backend_.gram(rows, x, y, matrices_.data(), &columns);
    return matrices_.to_host();
}

void DelayLines::add_product(const Matrices& c, const float* x, float* y, Index begin, Index end) {
    matrices_.copy_in(c.data());
    backend_.add_combined(shape_.b, shape_.k, shape_.n, {begin, end}, matrices_.data(), x, y);
}

Matrices DelayLines::sum_of(const std::vector<Matrices>& gamma, Index lag) const {
    Matrices sum(static_cast<std::size_t>(shape_.rows() * shape_.k), 0.0);
    for (std::size_t r = 0; r < ranges_.size(); ++r)
        if (ranges_[r].depth >= lag) add(sum, gamma[r]);
    return sum;
}

// ---- steps ----------------------------------------------------------------------------------------------------------

void DelayLines::enter(Index t, const float* own, Matrices c) {
    Line line{.made = t, .c = std::move(c)};
    for (const Range& range : ranges_) line.gamma.push_back(gram(own, own, range.begin, range.end));
    if (keeps_adjoint_) {
        backend_.zero(adjoint(t), static_cast<std::size_t>(shape_.rows() * shape_.n) * sizeof(float));
        line.k.assign(line.c.size(), 0.0);
        line.y.assign(ranges_.size(), line.k);
    }
    if (lines_.empty() || t > lines_.back().made) {
        SPIKEFLOSS_ASSERT(lines_.empty() || t == lines_.back().made + 1);
        lines_.push_back(std::move(line));
    } else {
        SPIKEFLOSS_ASSERT(t == lines_.front().made - 1);
        lines_.push_front(std::move(line));
    }
}

void DelayLines::leave_before(Index first) {
    while (!lines_.empty() && lines_.front().made < first) lines_.pop_front();
}

void DelayLines::leave(Index t) {
    while (!lines_.empty() && lines_.back().made >= t) lines_.pop_back();
}

void DelayLines::add_times_c(Index t, const float* x, float* y) { add_product(line(t).c, x, y, 0, shape_.n); }

void DelayLines::add_times_c_transposed(Index t, const float* x, float* y) {
    add_product(product(line(t).c, identity(), shape_.b, shape_.k, Turned::first), x, y, 0, shape_.n);
}

void DelayLines::mark(Index steps) {
    if (depth_ == 0) return;
    marked_lines_ = lines_;
    copied_ = steps > capacity_ - depth_;
    const auto bytes = static_cast<std::size_t>(rows_of_all_) * sizeof(float);
    for (const Line& line : lines_)
        if (copied_) backend_.copy(marked_.data() + line.made % depth_ * rows_of_all_, place(line.made), bytes);
}

void DelayLines::rewind() {
    if (depth_ == 0) return;
    lines_ = marked_lines_;
    const auto bytes = static_cast<std::size_t>(rows_of_all_) * sizeof(float);
    for (const Line& line : lines_)
        if (copied_) backend_.copy(place(line.made), marked_.data() + line.made % depth_ * rows_of_all_, bytes);
}

// ---- QRs ------------------------------------------------------------------------------------------------------------

void DelayLines::add_gram(Index end, Matrices& g) const {
    for (const Line& line : lines_) {
        const Matrices right =
            product(sum_of(line.gamma, end - line.made), line.c, shape_.b, shape_.k, Turned::neither);
        add(g, product(line.c, right, shape_.b, shape_.k, Turned::first));
    }
}

void DelayLines::divide(const Matrices& r) {
    for (Line& line : lines_) divide_right(line.c, r, shape_.b, shape_.k);
}

void DelayLines::drop(Index sequence, Index first) {
    for (Line& line : lines_)
        for (Index i = 0; i < shape_.k; ++i)
            for (Index j = first; j < shape_.k; ++j)
                line.c[static_cast<std::size_t>((sequence * shape_.k + i) * shape_.k + j)] = 0.0;
}

// ---- backwards ------------------------------------------------------------------------------------------------------

void DelayLines::add_adjoint_gram(Index end, Matrices& qbq) const {
    for (const Line& line : lines_) {
        Matrices inner = line.k;
        for (std::size_t r = 0; r < ranges_.size(); ++r)
            if (ranges_[r].depth >= end - line.made)
                add(inner, product(line.y[r], line.gamma[r], shape_.b, shape_.k, Turned::neither));
        add(qbq, solve_upper(line.c, product(inner, line.c, shape_.b, shape_.k, Turned::neither), shape_.b, shape_.k));
    }
}

void DelayLines::take_back(Index end, const Matrices& cq, const Matrices& r) {
    for (Line& line : lines_) {
        const Matrices right = product(cq, line.c, shape_.b, shape_.k, Turned::second);
        const Matrices change = product(line.c, right, shape_.b, shape_.k, Turned::neither);
        for (std::size_t at = 0; at < ranges_.size(); ++at)
            if (ranges_[at].depth >= end - line.made) add(line.y[at], change);
        line.c = product(line.c, r, shape_.b, shape_.k, Turned::neither);
    }
}

void DelayLines::add_adjoint(Index t, const float* x, const float* own) {
    const Index size = shape_.rows() * shape_.n;
    backend_.add(size, x, adjoint(t));
    add(line(t).k, gram(x, own, 0, shape_.n));
}

void DelayLines::add_whole_adjoint(Index t, const float* own, float* y) {
    backend_.add(shape_.rows() * shape_.n, adjoint(t), y);
    for (std::size_t r = 0; r < ranges_.size(); ++r)
        add_product(line(t).y[r], own, y, ranges_[r].begin, ranges_[r].end);
}

}  // namespace spikefloss
