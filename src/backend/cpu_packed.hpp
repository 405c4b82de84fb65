// Products with dense weights W [n, m] that were copied to panels once, for the steps of a loop:
//   multiply_packed    out (+)= X W', with the panels of W', or Y W, with those of W
//   gather_packed      out (+)= S W' for spikes S: sums over lists of the entries
// BLAS copies W in every product, which takes longer than a product of a few rows. The threads share the columns of
// out. Every element is one chain of sums in the order of its terms. With sums in double the copy is W as doubles, for
// BLAS.
#pragma once

#include "backend/arena.hpp"
#include "backend/backend.hpp"
#include "core/view.hpp"

namespace spikefloss {

// panels: [padded(out.cols) / 16][a.cols][16], then a byte that tells whether some blocks have only zeros, and the
// bytes of find_filled.
void multiply_packed(int threads, Matrix<const float> a, const float* panels, Matrix<float> out, bool accumulate);

// w.packed: panels [m, its size] of `parts` parts of the columns of out. Returns false if the spikes are so many that a
// dense product takes less time. The arena has gather_packed_bytes.
bool gather_packed(int threads, Index parts, const Activity& spikes, const Weights& w, Arena arena, Matrix<float> out,
                   bool accumulate);
Index gather_packed_bytes(Index rows, Index m);

}  // namespace spikefloss
