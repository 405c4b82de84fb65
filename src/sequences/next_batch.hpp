// Makes the batch of the next step in a thread of its own while the present step is computed.
#pragma once

#include "tasks/task.hpp"

#include <atomic>
#include <csignal>
#include <future>
#include <memory>
#include <tuple>

namespace spikefloss {

class NextBatch {
public:
    // step, and what else the batch depends on
    using Key = std::tuple<std::int64_t, Index, Index, Index, bool>;

    // make(step) of this key, from the thread if it has made that. Starts the next step. An error of the thread is
    // thrown when its batch is taken.
    template <class Make>
    Batch take(const Key& key, const Make& make) {
        const std::int64_t step = std::get<0>(key);
        // On a busy machine the thread may not have begun. Then it leaves the batch to this one.
        const bool begun = next_.valid() && begun_->exchange(true);
        const bool known = begun && key_ == key;
        if (begun && !known) next_.wait();
        Batch batch = known ? next_.get() : make(step);
        key_ = key;
        std::get<0>(key_) = step + 1;
        begun_ = std::make_shared<std::atomic<bool>>(false);
        // Signals are for the thread that trains.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        // Without a free thread the batch is made when it is taken.
        next_ = std::async(std::launch::async | std::launch::deferred,
                           [make, step, begun = begun_] { return begun->exchange(true) ? Batch() : make(step + 1); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return batch;
    }

private:
    Key key_;
    std::shared_ptr<std::atomic<bool>> begun_;  // whether a thread makes the batch of next_
    std::future<Batch> next_;
};

}  // namespace spikefloss
