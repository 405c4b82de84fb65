// An executable that links this uses the newest kernels of OpenBLAS that its processor can run.
#pragma once

namespace spikefloss {

// Each call of BLAS or LAPACK runs on the thread that makes it.
void keep_blas_on_one_thread();

}  // namespace spikefloss
