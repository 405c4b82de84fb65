// An executable that links this runs, from its start, the newest of OpenBLAS's kernels that its processor can.
#pragma once

namespace spikefloss {

// Each call of BLAS or LAPACK runs on the thread that makes it.
void keep_blas_on_one_thread();

}  // namespace spikefloss
