// Recordings of the same operations on different arrays: one for each call that was made. Intervals of QRs that are
// chosen give many different calls, so all recordings are dropped when there are too many.
#pragma once

#include "backend/backend.hpp"

#include <utility>
#include <vector>

namespace spikefloss {

// Call: a struct of everything that the operations depend on.
template <class Call>
class RecordedCalls {
public:
    explicit RecordedCalls(Backend& backend) : backend_(backend) {}
    // Runs `work`, as a recording where the backend has them. Equal calls must make the same operations.
    void run(const Call& call, const std::function<void()>& work) {
        for (auto& [known, recording] : recordings_)
            if (known == call) return recording->run(work);
        std::unique_ptr<Recording> recording = backend_.recording();
        if (!recording) return work();
        if (recordings_.size() == most) recordings_.clear();
        recordings_.emplace_back(call, std::move(recording)).second->run(work);
    }

private:
    static constexpr std::size_t most = 256;
    Backend& backend_;
    std::vector<std::pair<Call, std::unique_ptr<Recording>>> recordings_;
};

}  // namespace spikefloss
