// QR of one basis by Cholesky, in a core's cache: k rows of D floats (each row a column of A), all arithmetic in
// double.
//   gram        g = x y', the upper triangle
//   factorise   g = R' R
//   substitute  x <- R^-T x, or R^-1 x, row after row
// The k x k matrices have rows of padded_k(k), the padding an identity. D is a multiple of 16. Every element is
// computed alike however rows (gram) and columns (substitute) are shared out over threads.
#pragma once

#include "core/view.hpp"

namespace spikefloss {

inline Index padded_k(Index k) { return (k + 3) / 4 * 4; }

// Doubles of scratch that gram and substitute need.
Index basis_scratch(Index k);

// Member `member` of `members` computes its share of g[i, j], j >= i; rows of x and y are `stride` apart.
void gram(Index k, Index D, Index stride, const float* x, const float* y, double* g, double* scratch, Index member,
          Index members);

// In place; the lower triangle is left undefined, the padding is written. Returns 0, or the column (from 1) at which g
// turns out not to be positive definite, or not finite.
Index factorise(Index k, double* g);

// A triangular matrix L as substitute reads it: L[j, p], p <= j, is data[p * inner + j * outer].
struct LowerTriangle {
    const double* data;
    Index inner, outer;
};
// R' of a padded R, as factorise leaves it.
inline LowerTriangle transpose_of(Index k, const double* r) { return {r, padded_k(k), 1}; }
// R with rows and columns in reverse order, which makes it lower triangular; R [k, k] is copied to `padded`.
LowerTriangle reverse_of(Index k, const double* r, double* padded);

// Columns [begin, end), multiples of 4, of x <- L^-1 x; with reverse_of, the rows are taken in reverse: x <- R^-1 x.
void substitute(Index k, const LowerTriangle& l, float* x, Index stride, Index begin, Index end, double* scratch);

}  // namespace spikefloss
