// The backends that every operation test and benchmark runs on. A new backend is one more entry here.
#pragma once

#include "backend/factory.hpp"

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace spikefloss::testing_support {

struct BackendCase {
    std::string name;  // letters, digits and _ only: part of the test's name
    std::function<std::unique_ptr<Backend>()> make;
};

inline std::ostream& operator<<(std::ostream& out, const BackendCase& backend) { return out << backend.name; }

// Three threads divide none of the usual sizes, so that a wrong split of the work shows.
inline std::vector<BackendCase> available_backends() {
    std::vector<BackendCase> backends;
    for (int threads : {1, 3})
        for (Sums sums : {Sums::float32, Sums::float64})
            backends.push_back(
                {"cpu_" + std::to_string(threads) + "_threads_" + (sums == Sums::float32 ? "float32" : "float64"),
                 [=] { return make_backend("cpu", threads, sums); }});
    return backends;
}

}  // namespace spikefloss::testing_support
