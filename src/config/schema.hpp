// Every key of the configuration with its description, unit and range, and functions on the whole configuration.
#pragma once

#include "config/config.hpp"
#include "core/part_name.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace spikefloss {

// A reference to one value of a Config.
using ConfigValue =
    std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::int64_t>*, std::vector<double>*,
                 Precision*, Sums*, Reset*, NirReset*, NirIntegration*, NirOrder*, Surrogate*, Readout*, WeightInit*,
                 TaskKind*, BitCoding*, PictureOrder*, OptimiserKind*, RateSchedule*, TapeKind*, LossKind*, Adaptation*,
                 Sign*, Storage*, JacobianReset*, AdaptiveQuantity*, BackendKind*, CommKind*, PassKind*, TargetFrom*,
                 TimeUnit*, LossSteps*, std::vector<StopSignal>*, std::vector<TrainedName>*,
                 std::vector<FlossingTime>*>;

struct Key {
    std::string section, name;
    std::string description;           // with the unit
    std::vector<std::string> choices;  // names of an enum's values; empty: no enum
    // Inclusive range of numbers (of each element of a list); an open end is the next double inside (above, below).
    double low = -1e300, high = 1e300;
    ConfigValue value;    // inside the Config that keys_of was given
    double least = 0.0;   // least size of a number that is not 0
    bool secret = false;  // value_text shows an empty text in its place
    // The names of the keys that this population or projection has of its own; nullptr in other sections.
    std::vector<std::string>* given = nullptr;
    bool is_given() const { return !given || std::find(given->begin(), given->end(), name) != given->end(); }
    void set_given() const {
        if (!is_given()) given->push_back(name);
    }
    std::string path() const { return section + "." + name; }
};

// Ends of an open range: the smallest double above, the largest below a bound.
inline double above(double bound) { return std::nextafter(bound, 1e301); }
inline double below(double bound) { return std::nextafter(bound, -1e301); }

// All keys of `config`, in the order of the sections. Those of a population exc are in the section population.exc. Keys
// that a population or a projection is not given have the values of [network] after this call.
std::vector<Key> keys_of(Config& config);
// The keys of one population or projection.
std::vector<Key> keys_of(PopulationConfig& population);
std::vector<Key> keys_of(ProjectionConfig& projection);
// All populations and projections with their values, also of a config that has none of its own: one population, with
// dense projections from the input and onto itself.
std::vector<PopulationConfig> populations_of(const Config& config);
std::vector<ProjectionConfig> projections_of(const Config& config);
// The sections that a file can have several times; each time is a population or projection with a name.
inline constexpr const char* population_section = "population";
inline constexpr const char* projection_section = "projection";
inline bool is_list_section(const std::string& name) {
    return name == population_section || name == projection_section;
}
// N of a config without network.file.
std::int64_t neurons_of(const Config& config);

// A key in words: "an integer", "a list of floats"; "from 0 to below 1", "" where any number is allowed.
std::string type_text(const Key& key);
std::string range_text(const Key& key);
// The present value in TOML syntax; doubles with the fewest digits that read back as the same double. "" for a secret,
// so that no file and no message shows it.
std::string value_text(const Key& key);
// Gives `to` the value of a key of the same type.
void copy_value(const Key& to, const Key& from);
// Throws Error(Exit::usage) unless the value is in the key's range; `where` begins the message.
void check_value(const Key& key, const std::string& where);
// Throws Error(Exit::usage): `name` is not among the key's choices.
[[noreturn]] void refuse_choice(const Key& key, const std::string& name, const std::string& where);

// Fills `config` from a TOML file. Throws Error(Exit::usage) with file and line for a missing file, bad TOML, an
// unknown key (naming the nearest known one), a wrong type or a value out of range.
void read_config(const std::string& path, Config& config);
// The same from TOML text; `origin` replaces the path in messages.
void read_config_text(const std::string& text, const std::string& origin, Config& config);
// "section.key=value", value in TOML syntax or a bare word for a string.
void set_key(const std::string& assignment, Config& config);
// Sets a key from the text of a command-line option that means the same. The option refuses the values that a config
// refuses. `where` begins the message ("--exponents 0: ").
void set_key_text(const std::string& path, const std::string& text, const std::string& where, Config& config);
// Checks ranges (again, for values that the program has set) and contradictions between keys (k > D, d >= T, ...).
// Throws Error(Exit::usage). It does not read networks and pictures: N and D are checked only without network.file, and
// pictures are assumed to be 28 x 28. check_grid checks contradictions with the numbers of shards.
void check_config(const Config& config);
// The part of it on populations and projections.
void check_populations(const Config& config);
// The part of it that depends on the number of steps of a sequence, which check_config may not know.
void check_lengths(const Config& config, std::int64_t steps);
// The contradictions that check_config would find if sections that are off (flossing, diagnostics, serve) were on, one
// sentence each. Keys at their defaults are not reported. D is unknown with network.file; the second form takes it.
std::vector<std::string> config_warnings(const Config& config);
std::vector<std::string> config_warnings(const Config& config, std::int64_t neurons, bool has_current);
// Throws Error(Exit::usage) unless the communicator `comm` can carry what `backend` computes.
void check_comm(BackendKind backend, CommKind comm);
// One sentence for each population whose adaptation grows without spikes.
std::vector<std::string> adaptation_warnings(const Config& config);
// Whether only this machine can reach an address to listen at.
bool is_loopback(const std::string& address);
// The environment variable with the token, if the config has none.
inline constexpr const char* token_variable = "SPIKEFLOSS_TOKEN";
// Throws Error(Exit::usage) for a token that is easy to guess or cannot be part of an address. `name` is its place.
void check_token(const std::string& token, const std::string& name);
// Whether "section.key=value" sets serve.token.
bool is_token_assignment(const std::string& assignment);
void check_grid(const Config& config, int neuron_shards, int batch_shards);
// The whole config as TOML with the description of each key as a comment (comments = true), or bare.
std::string to_toml(const Config& config, bool comments);
// docs/config.md.
std::string config_reference();

}  // namespace spikefloss
