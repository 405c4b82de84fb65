#include "commands/completion.hpp"

#include "config/schema.hpp"

#include <fmt/ranges.h>

namespace spikefloss {
namespace {

// The part that does not depend on the options. Bash splits a word at '=', so --backend=c is three of COMP_WORDS.
constexpr const char* script = R"bash(
_spikefloss() {
    local command="" word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} choices
    COMPREPLY=()
    [ "$COMP_CWORD" -gt 1 ] && command=${COMP_WORDS[1]}
    if [ "$word" = "=" ]; then
        word=""
    elif [ "$before" = "=" ] && [ "$COMP_CWORD" -gt 2 ]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    choices=$(_spikefloss_values "$command" "$before")
    if [ "$choices" = "" ] && { [ "$command" = "" ] || [[ $word = -* ]]; }; then
        choices=$(_spikefloss_words "$command")
    fi
    case $choices in
        "<none>") ;;
        "<key>")
            mapfile -t COMPREPLY < <(compgen -W "$(_spikefloss_keys)" -- "$word")
            compopt -o nospace 2>/dev/null ;;
        "" | "<file>")
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            compopt -o filenames 2>/dev/null ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word") ;;
    esac
    return 0
}
# The keys of the populations and projections of the config on the command line.
_spikefloss_part_keys() {
    local file
    for file in "${COMP_WORDS[@]}"; do
        [[ $file = *.toml && -f $file ]] || continue
        awk -v population="$1" -v projection="$2" '
            function put(  keys, n, k) {
                n = split(kind == "population" ? population : kind == "projection" ? projection : "", keys, " ")
                if (name == "") name = source "_" target
                for (k = 1; k <= n; ++k) print kind "." name "." keys[k] "="
                name = source = target = ""
            }
            /^ *\[/ { put(); kind = $0; gsub(/[][ ]|#.*/, "", kind) }
            /^ *(name|source|target) *=/ {
                value = $0; sub(/^[^=]*= *./, "", value); sub(/["\047].*/, "", value)
                if ($1 ~ /^name/) name = value; else if ($1 ~ /^source/) source = value; else target = value
            }
            END { put() }' "$file"
    done
}
complete -F _spikefloss spikefloss
)bash";

// "auto cpu cuda" of an option that CLI11 describes as TEXT:{auto,cpu,cuda}; "<none>": a number; "<file>": any text.
std::string values_of(const CLI::Option& option) {
    const std::string type = option.get_type_name();
    const std::size_t open = type.find('{'), close = type.find('}', open);
    if (option.get_name() == "--set") return "<key>";
    if (close == std::string::npos) return type.rfind("TEXT", 0) == 0 ? "<file>" : "<none>";
    std::string words = type.substr(open + 1, close - open - 1);
    for (char& c : words)
        if (c == ',') c = ' ';
    return words;
}

// All names of the options that --help shows, with their dashes.
std::vector<std::string> names_of(const CLI::Option& option) {
    std::vector<std::string> names;
    if (option.get_group().empty()) return names;
    for (const std::string& name : option.get_snames()) names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
    return names;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
    std::vector<const CLI::App*> apps = {&app};
    for (const CLI::App* command : app.get_subcommands(nullptr)) apps.push_back(command);
    std::string words, values;
    for (const CLI::App* one : apps) {
        const std::string command = one == &app ? "" : one->get_name();
        std::vector<std::string> offered;
        for (const CLI::Option* option : one->get_options()) {
            const std::vector<std::string> names = names_of(*option);
            offered.insert(offered.end(), names.begin(), names.end());
            if (names.empty() || option->get_items_expected_max() == 0) continue;
            values +=
                fmt::format("        {}) echo \"{}\" ;;\n",
                            fmt::format("{0}:{1}", command, fmt::join(names, "|" + command + ":")), values_of(*option));
        }
        if (one == &app)
            for (const CLI::App* command_app : app.get_subcommands(nullptr)) offered.push_back(command_app->get_name());
        words += fmt::format("        \"{}\") echo \"{}\" ;;\n", command, fmt::join(offered, " "));
    }
    Config config;
    std::string keys;
    for (const Key& key : keys_of(config)) keys += key.path() + "=\n";
    const auto names_in = [](auto part) {
        std::vector<std::string> names;
        for (const Key& key : keys_of(part)) names.push_back(key.name);
        return fmt::format("{}", fmt::join(names, " "));
    };
    return fmt::format(
        "# bash completion for spikefloss, written by `spikefloss --bash-completion`.\n"
        "_spikefloss_words() {{\n    case $1 in\n{}    esac\n}}\n"
        "_spikefloss_values() {{\n    case $1:$2 in\n{}    esac\n}}\n"
        "_spikefloss_keys() {{\n    echo \"\n{}\"\n    _spikefloss_part_keys \"{}\" \"{}\"\n}}\n{}",
        words, values, keys, names_in(PopulationConfig()), names_in(ProjectionConfig()), script);
}

}  // namespace spikefloss
