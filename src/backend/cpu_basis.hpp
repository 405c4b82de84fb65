// QR of one basis by Cholesky, in a core's cache: k rows of D floats (each row a column of A).
//   gram        g = x y', the upper triangle
//   factorise   g = R' R
//   invert      L^-1, for L = R'
//   divide      x <- R^-T x, or R^-1 x, as a product with that inverse; substitute is the same in double
// Gram matrices, R and its inverse are computed in double. Their rows have padded_k(k) elements; the padding is an
// identity. D is a multiple of 16. No element depends on how rows (gram) or columns (divide, substitute) are
// distributed over threads.
#pragma once

#include "backend/backend.hpp"

namespace spikefloss {

inline Index padded_k(Index k) { return (k + 3) / 4 * 4; }

// Doubles of scratch that gram, invert and substitute need.
Index basis_scratch(Index k);

// Products of two floats are exact in double. Sums of a few floats at a time suffice if no cancellation can occur.
enum class GramSums { float64, float32 };

// Member `member` of `members` computes its share of g[i, j], j >= i. x and y have padded_k(k) rows, `stride` apart;
// the rows from k on must be finite.
void gram(GramSums sums, Index k, Index D, Index stride, const float* x, const float* y, double* g, double* scratch,
          Index member, Index members);

// In place. The lower triangle becomes undefined; the padding is written. Returns 0, or the column (from 1) at which g
// is not positive definite or not finite.
Index factorise(Index k, double* g);

// The strain of a QR with this R, its rows `stride` apart (QrFindings in backend/backend.hpp).
double strain(Index k, const double* r, Index stride);

// Copies R [k, k] to padded rows; the padding is an identity.
void pad(Index k, const double* r, double* padded);

// inverse [padded k, padded k] = L^-1 rounded to float, L = R', with zeros above its diagonal. Returns the largest
// growth of an error in the columns of A to Q = A R^-1, relative to |Q_j| = 1: the largest sum over p <= j of |L^-1_jp|
// |A_p|.
double invert(Index k, const double* r, float* inverse, double* scratch);

enum class Transpose { no, yes };

// Columns [begin, end), multiples of 16, of x <- L^-1 x = R^-T x, or (Transpose::yes) of x <- R^-1 x.
void divide(Index k, Transpose op, const float* inverse, float* x, Index stride, Index begin, Index end);

// Columns [begin, end), multiples of 4, of x <- R^-T x, in double.
void substitute(Index k, const double* r, float* x, Index stride, Index begin, Index end, double* scratch);

}  // namespace spikefloss
