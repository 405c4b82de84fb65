// While there is such an object, each call of OpenBLAS and LAPACK uses one thread, so that its result does not depend
// on the number of cores. After the last one it uses as many as before, for other parts of the process.
#pragma once

namespace spikefloss {

class OneBlasThread {
public:
    OneBlasThread();
    ~OneBlasThread();
    OneBlasThread(const OneBlasThread&) = delete;
    OneBlasThread& operator=(const OneBlasThread&) = delete;
};

}  // namespace spikefloss
