// Makes the batch of the next step in a thread of its own while the present step is computed.
#pragma once

#include "tasks/task.hpp"

#include <csignal>
#include <future>
#include <tuple>

namespace spikefloss {

class NextBatch {
public:
    // step, and what else the batch depends on
    using Key = std::tuple<std::int64_t, Index, Index, Index>;

    // make(step) of this key, from the thread if it has made that. Starts the next step. An error of the thread is
    // thrown when its batch is taken.
    template <class Make>
    Batch take(const Key& key, const Make& make) {
        const bool known = next_.valid() && key_ == key;
        if (next_.valid() && !known) next_.wait();
        const std::int64_t step = std::get<0>(key);
        Batch batch = known ? next_.get() : make(step);
        key_ = key;
        std::get<0>(key_) = step + 1;
        // Signals are for the thread that trains.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        // Without a free thread the batch is made when it is taken.
        next_ = std::async(std::launch::async | std::launch::deferred, [make, step] { return make(step + 1); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return batch;
    }

private:
    Key key_;
    std::future<Batch> next_;
};

}  // namespace spikefloss
