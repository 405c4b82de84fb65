// Recordings of the same operations on different arrays: one for each call that was made.
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
        recordings_.emplace_back(call, std::move(recording)).second->run(work);
    }

private:
    Backend& backend_;
    std::vector<std::pair<Call, std::unique_ptr<Recording>>> recordings_;
};

}  // namespace spikefloss
