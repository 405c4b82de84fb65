#include "lyapunov/qr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace spikefloss {
namespace {

const double aim = std::log(32.0), most = std::log(128.0);

// QRs between two decisions: few while the interval changes, more when it stays.
constexpr Index fewest_qrs = 2, most_qrs = 64;

}  // namespace

QrSchedule::QrSchedule(Index T, Index warmup, Index interval)
    : chosen_(interval == 0),
      warmup_(warmup),
      last_(chosen_ ? T : T / interval * interval),
      interval_(chosen_ ? 1 : interval),
      qrs_(chosen_ ? fewest_qrs : last_ / interval),
      longest_(std::numeric_limits<Index>::max()) {
    plan(0);
}

void QrSchedule::plan(Index first) {
    const Index end = chosen_ && first < warmup_ ? std::min(warmup_, last_) : last_;
    const Index interval = std::clamp<Index>(end - first, 1, std::min(interval_, longest_));
    next_ = {first, std::min(qrs_ * interval, (end - first) / interval * interval), interval};
}

bool QrSchedule::accept(double strain, bool failed) {
    const QrSegment now = next_;
    const bool known = std::isfinite(strain) && !failed;
    const auto m = static_cast<double>(now.interval);
    if (chosen_ && now.interval > 1 && !(known && strain <= most)) {
        interval_ = now.interval / 2;
        if (known)
            interval_ = std::clamp<Index>(static_cast<Index>(m * aim / strain), 1, interval_);
        else
            longest_ = interval_;
        qrs_ = fewest_qrs;
        plan(now.first);
        return false;
    }
    if (chosen_) {
        if (!known) longest_ = 1;
        const double wanted = known ? std::min(m * aim / std::max(strain, 1e-3), 2.0 * m) : 1.0;
        const Index before = std::exchange(interval_, std::max<Index>(1, static_cast<Index>(wanted)));
        qrs_ = interval_ == before ? std::min(2 * qrs_, most_qrs) : fewest_qrs;
    }
    plan(now.first + now.steps);
    return true;
}

}  // namespace spikefloss
