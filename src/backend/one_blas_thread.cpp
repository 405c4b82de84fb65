#include "backend/one_blas_thread.hpp"

#include <cblas.h>

#include <mutex>

namespace spikefloss {
namespace {

std::mutex mutex;
int objects = 0, threads_before = 0;

}  // namespace

OneBlasThread::OneBlasThread() {
    const std::lock_guard lock(mutex);
    if (objects++ > 0) return;
    threads_before = openblas_get_num_threads();
    openblas_set_num_threads(1);
}

OneBlasThread::~OneBlasThread() {
    const std::lock_guard lock(mutex);
    if (--objects == 0) openblas_set_num_threads(threads_before);
}

}  // namespace spikefloss
