// Every key of the configuration with its description, unit and range, and functions on the whole configuration.
#pragma once

#include "config/config.hpp"

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
                 TaskKind*, BitCoding*, PictureOrder*, OptimiserKind*, RateSchedule*, TapeKind*, LossKind*,
                 JacobianReset*, AdaptiveQuantity*, BackendKind*, CommKind*, PassKind*, TimeUnit*, LossSteps*,
                 std::vector<StopSignal>*, std::vector<Parameter>*, std::vector<FlossingTime>*>;

struct Key {
    std::string section, name;
    std::string description;           // with the unit
    std::vector<std::string> choices;  // names of an enum's values; empty: no enum
    // Inclusive range of numbers (of each element of a list); an open end is the next double inside (above, below).
    double low = -1e300, high = 1e300;
    ConfigValue value;    // inside the Config that keys_of was given
    double least = 0.0;   // least size of a number that is not 0
    bool secret = false;  // value_text shows an empty text in its place
    std::string path() const { return section + "." + name; }
};

// Ends of an open range: the smallest double above, the largest below a bound.
inline double above(double bound) { return std::nextafter(bound, 1e301); }
inline double below(double bound) { return std::nextafter(bound, -1e301); }

// All keys of `config`, in the order of the sections.
std::vector<Key> keys_of(Config& config);

// A key in words: "an integer", "a list of floats"; "from 0 to below 1", "" where any number is allowed.
std::string type_text(const Key& key);
std::string range_text(const Key& key);
// The present value in TOML syntax; doubles with the fewest digits that read back as the same double. "" for a secret,
// so that no file and no message shows it.
std::string value_text(const Key& key);
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
// The part of it that depends on the number of steps of a sequence, which check_config may not know.
void check_lengths(const Config& config, std::int64_t steps);
// The contradictions that check_config would find if sections that are off (flossing, diagnostics, serve) were on, one
// sentence each. Keys at their defaults are not reported. D is unknown with network.file; the second form takes it.
std::vector<std::string> config_warnings(const Config& config);
std::vector<std::string> config_warnings(const Config& config, std::int64_t neurons, bool has_current);
// Throws Error(Exit::usage) unless the communicator `comm` can carry what `backend` computes.
void check_comm(BackendKind backend, CommKind comm);
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
