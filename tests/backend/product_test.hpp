// Matrices and operands of products, for the tests of dense and of sparse ones.
#pragma once

#include "backend/operation_test.hpp"

#include <algorithm>
#include <deque>

namespace spikefloss::testing_support {

class SumOperations : public OperationTest {
protected:
    double squares(const float* x, Index count) {
        Buffer<double> sum(backend, 1);
        return squares_of(backend, x, count, sum);
    }
};

// A [rows, cols] matrix with `pad` values between its rows and none after the last. The padding of an input is NaN, so
// that a read of the padding shows.
struct Padded {
    Index rows, cols, stride;
    Floats values;

    // density: the share of elements that are not 0, in the first share `early` of the rows. The other rows are 0.
    Padded(Index rows_, Index cols_, Index pad, std::uint64_t seed, double density = 1.0, double early = 1.0)
        : rows(rows_), cols(cols_), stride(cols_ + pad), values(random_floats(size(), seed)) {
        const Floats chance = uniform_floats(size(), seed + 10, 0.0, 1.0);
        for (Index i = 0; i < size(); ++i) {
            if (i % std::max<Index>(1, stride) >= cols)
                values[i] = nan_value;
            else if (chance[i] >= density || i >= early * static_cast<double>(rows * stride))
                values[i] = 0.0f;
        }
    }
    Index size() const { return rows ? (rows - 1) * stride + cols : 0; }
    double at(Index i, Index j) const { return values[i * stride + j]; }
};

// x [rows, m] of a product in one of its forms: floats, or spikes whose rows are `pad` words apart. Steps of three rows
// have four more words between them. The words of the padding are all spikes.
enum class Form { floats, sparse_floats, bits, steps_of_bits };

struct Operand {
    Form form;
    Padded floats;
    Buffer<float> floats_;
    Buffer<std::uint32_t> bits_;
    Activity activity;

    Operand(Backend& backend, Index rows, Index m, Index pad, double density, Form form_, std::uint64_t seed)
        : Operand(backend, Padded(rows, m, pad, seed, density), form_) {}
    Operand(Backend& backend, Padded floats_on_host, Form form_)
        : form(form_), floats(std::move(floats_on_host)), floats_(backend, floats.values) {
        const Index rows = floats.rows, m = floats.cols, pad = floats.stride - m;
        activity = {.values = floats_.data(), .stride = floats.stride, .sparse = form == Form::sparse_floats};
        if (form == Form::floats || form == Form::sparse_floats) return;
        const Index stride = spike_words(m) + pad, step = 3 * stride + 4;
        activity = {.stride = stride};
        if (form == Form::steps_of_bits) activity.step_rows = 3, activity.step_stride = step;
        const auto begin = [&](Index row) {
            return form == Form::steps_of_bits ? row / 3 * step + row % 3 * stride : row * stride;
        };
        std::vector<std::uint32_t> words(begin(rows) + stride, 0xFFFFFFFFu);
        for (Index row = 0; row < rows; ++row)
            for (Index j = 0; j < (m + 31) / 32 * 32; ++j)
                if (j >= m || floats.at(row, j) == 0.0) words[begin(row) + j / 32] &= ~(1u << (j % 32));
        bits_ = {backend, words};
        activity.bits = bits_.data();
    }
    double at(Index row, Index j) const { return activity.bits ? floats.at(row, j) != 0.0 : floats.at(row, j); }
};

class ProductOperations : public SumOperations {
protected:
    struct Product {
        Index rows, n, m, pad;
        bool accumulate;
        Form form;
        double density, early = 1.0;
        bool layers = false;  // W has weights only in the blocks of 80 x 80 of its diagonal
    };
    Padded weights(const Product& p) const {
        Padded w(p.n, p.m, p.pad, 1);
        for (Index i = 0; p.layers && i < p.n; ++i)
            for (Index j = 0; j < p.m; ++j)
                if (i / 80 != j / 80) w.values[i * w.stride + j] = 0.0f;
        return w;
    }
    Operand operand(const Product& p) const {
        return Operand(backend, Padded(p.rows, p.m, p.pad, 2, p.density, p.early), p.form);
    }
    // run(weights) with `w`, and with its copy for products of a kind, if the backend has one.
    template <class Run>
    void with_copy(spikefloss::Product of, Weights w, Run&& run) {
        run(w);
        Buffer<float> copy(backend, backend.packed_size(of, w.rows, w.cols));
        if (copy.size() == 0) return;
        SCOPED_TRACE("with a copy of W");
        backend.pack(of, w, copy.data());
        w.packed = copy.data();
        run(w);
    }

    template <class Test>
    void for_every_product(Test&& test) {
        std::vector<Product> products;
        for (Form form : {Form::floats, Form::sparse_floats, Form::bits, Form::steps_of_bits})
            for (bool accumulate : {false, true}) {
                for (Index rows : {0, 1, 67})
                    for (Index n : {0, 1, 33})
                        for (Index m : {0, 1, 31, 33})
                            for (Index pad : {0, 3}) products.push_back({rows, n, m, pad, accumulate, form, 0.5});
                // Large enough to be split over threads, and for spikes in parts.
                products.push_back({67, 131, 257, 5, accumulate, form, 0.5});
                for (Index rows : {3, 67}) {
                    products.push_back({rows, 131, 390, 5, accumulate, form, 0.2, 1.0, true});
                    products.push_back({rows, 390, 131, 5, accumulate, form, 0.2, 1.0, true});
                }
                if (backend.name() == "cuda" && form >= Form::bits)
                    products.push_back({37, 513, 515, 1, accumulate, form, 0.5});
                // Densities below and above the limits of algorithms.
                for (double density : {0.0, 0.03, 0.27, 0.33})
                    products.push_back({601, 33, 145, 3, accumulate, form, density});
                products.push_back({1301, 101, 45, 3, accumulate, form, 0.1});
                // Few outputs, as of a readout; and entries of early rows only, few and many.
                products.push_back({601, 10, 145, 3, accumulate, form, 0.1});
                for (double early : {0.3, 0.5}) products.push_back({1201, 33, 145, 3, accumulate, form, 0.8, early});
            }
        for (const Product& p : products) {
            SCOPED_TRACE(testing::Message()
                         << p.rows << " rows, " << p.m << " to " << p.n << ", pad " << p.pad << ", accumulate "
                         << p.accumulate << ", form " << int(p.form) << ", density " << p.density);
            test(p);
            if (HasFailure()) return;
        }
    }

    // Compares what `run` writes or adds to C [rows, cols] with the double sums `element(i, j)` over `inner` terms: as
    // sums, and as floats.
    template <class Run, class Element>
    void expect_product(const Product& p, Index rows, Index cols, Index inner, bool accumulate, Run&& run,
                        Element&& element) {
        const Index stride = cols + p.pad;
        Floats start(rows ? (rows - 1) * stride + cols : 0, padding);
        const Floats first = random_floats(static_cast<Index>(start.size()), 3);
        Doubles expected;
        for (std::size_t at = 0; at < start.size(); ++at) {
            const Index i = static_cast<Index>(at) / stride, j = static_cast<Index>(at) % stride;
            // NaN must be overwritten.
            if (j < cols) start[at] = accumulate ? first[at] : nan_value;
            expected.push_back(j < cols ? element(i, j) + (accumulate ? first[at] : 0.0) : padding);
        }
        Buffer<float> floats(backend, start);
        run(Matrix<float>(floats.data(), rows, cols, stride));
        EXPECT_TRUE(close_to(floats.to_host(), expected, std::max(2e-7, sum_tolerance(inner)))) << "as floats";
        SumBuffer sums = sums_on_backend(start);
        run(SumMatrix{sums.data(), sums.type(), rows, cols, stride});
        EXPECT_TRUE(close_to(to_host(sums), expected, sum_tolerance(inner))) << "as sums";
    }
    static constexpr float padding = -77.0f;
};

}  // namespace spikefloss::testing_support
