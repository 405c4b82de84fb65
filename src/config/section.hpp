// Adds keys to the table of all keys (schema.cpp, schema_network.cpp).
#pragma once

#include "config/schema.hpp"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace spikefloss {

struct Range {
    double low = -1e300, high = 1e300;
    double least = 0.0;  // of a number that is not 0
};

// The least number that the program takes as float32. A number closer to 0 would lose precision or become 0.
constexpr double least_float = 0x1p-126;

constexpr double many = 1e9;  // upper limit of step counters, which count random numbers in 32 bits

// Appends the keys of one section.
class Section {
public:
    Section(std::vector<Key>& keys, std::string name, std::vector<std::string>* given = nullptr)
        : keys_(keys), name_(std::move(name)), given_(given) {}

    template <class T>
    void add(const char* key, T& value, const char* description, Range range = {}) {
        std::vector<std::string> choices;
        if constexpr (HasNames<T>) choices = names_of<T>();
        if constexpr (requires { requires HasNames<typename T::value_type>; })
            choices = names_of<typename T::value_type>();
        if constexpr (std::is_same_v<T, std::vector<TrainedName>>) {
            choices = names_of<Parameter>();
            choices.push_back(std::string(trained_projection) + "NAME");
        }
        keys_.push_back(
            {name_, key, description, std::move(choices), range.low, range.high, &value, range.least, false, given_});
    }

private:
    std::vector<Key>& keys_;
    std::string name_;
    std::vector<std::string>* given_;
};

// The keys of the network, of its populations and of its projections.
void add_network_keys(std::vector<Key>& keys, Config& config);

}  // namespace spikefloss
