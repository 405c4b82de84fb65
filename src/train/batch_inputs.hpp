// The inputs of a batch, for the passes of a backend.
#pragma once

#include "backend/buffer.hpp"
#include "core/error.hpp"
#include "network/state_pass.hpp"
#include "tasks/task.hpp"

namespace spikefloss {

class BatchInputs {
public:
    BatchInputs() = default;
    // Of batches whose x has at least `numbers` numbers. The first `numbers` are shown.
    BatchInputs(Backend& backend, Index numbers) : in_place_(backend.is_host()), values_(backend, numbers) {}

    // The batch must stay as it is until the last operation on the result has been called. It has bits only for a pass
    // that takes them (StatePass::takes_bits).
    InputView of(const Batch& batch) {
        SPIKEFLOSS_ASSERT(batch.x_bits.empty() || in_place_);
        if (!batch.x_bits.empty()) return InputView(batch.x_bits.data());
        values_.show(batch.x.data());
        return values_.data();
    }

private:
    bool in_place_ = false;
    HostArray<float> values_;
};

}  // namespace spikefloss
