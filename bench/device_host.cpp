// The clock and the limits for the CPU backend: a steady clock around finished work, and the backend's own copy and
// product.
#include "device.hpp"

#include "backend/buffer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace spikefloss::bench {
namespace {

class HostTimer final : public Timer {
public:
    explicit HostTimer(Backend& backend) : backend_(backend) {}
    double seconds(const std::function<void()>& work) override {
        backend_.synchronize();
        const auto start = std::chrono::steady_clock::now();
        work();
        backend_.synchronize();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

private:
    Backend& backend_;
};

}  // namespace

std::unique_ptr<Timer> host_timer(Backend& backend) { return std::make_unique<HostTimer>(backend); }

Limits host_limits(Backend& backend) {
    HostTimer timer(backend);
    Limits limits;
    limits.device = "host, " + std::to_string(std::thread::hardware_concurrency()) + " threads";
    constexpr Index count = Index(1) << 24, n = 1024;
    Buffer<float> from(backend, count), to(backend, count);
    limits.copy_rate = 2.0 * static_cast<double>(from.bytes()) /
                       median_seconds(
                           timer, [&] { backend.copy(to.data(), from.data(), from.bytes()); }, 5);
    limits.fp32_rate = 2.0 * static_cast<double>(n * n * n) /
                       median_seconds(
                           timer,
                           [&] {
                               backend.project_transposed({n, n, from.data() + n * n, n}, {from.data(), n, n},
                                                          Matrix<float>(to.data(), n, n), false);
                           },
                           5);
    return limits;
}

double median_seconds(Timer& timer, const std::function<void()>& work, int repeats) {
    timer.seconds(work);
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) times.push_back(timer.seconds(work));
    std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
    return times[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace spikefloss::bench
