// /proc/self/cgroup has a line "4:memory:/slurm/job_7/step_0" for version 1 and "0::/system.slice/x.service" for
// version 2; /proc/self/mountinfo says where that tree is, and which part of it is mounted there. A limit can be in
// any folder from the process's own to the top.
#include "backend/memory_groups.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>

namespace spikefloss {
namespace {

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// The names of the files of a version.
struct Version {
    const char* type;  // of the file system
    const char* limit;
    const char* used;
    const char* droppable;  // in memory.stat
};
constexpr Version first = {"cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Version second = {"cgroup2", "memory.max", "memory.current", "inactive_file"};

// The number at the beginning of a file; no_limit if it has none (such as "max").
std::size_t number_in(const std::string& path) {
    std::size_t number = 0;
    std::ifstream file(path);
    return file >> number ? number : no_limit;
}

// The number of a name in a file of lines "name number"; 0 if the name is missing.
std::size_t number_of(const std::string& path, std::string_view name) {
    std::ifstream file(path);
    std::string word;
    for (std::size_t number = 0; file >> word >> number;)
        if (word == name) return number;
    return 0;
}

bool has_word(const std::string& text, std::string_view word) {
    std::istringstream words(text);
    for (std::string part; std::getline(words, part, ',');)
        if (part == word) return true;
    return false;
}

std::size_t left_by(const std::string& folder, const Version& version) {
    const std::size_t limit = number_in(folder + "/" + version.limit), used = number_in(folder + "/" + version.used);
    if (limit == no_limit || used == no_limit) return no_limit;
    const std::size_t droppable = number_of(folder + "/memory.stat", version.droppable);
    const std::size_t kept = used - std::min(used, droppable);
    return limit - std::min(limit, kept);
}

// group: of the process, in the whole tree; its part `mounted` is mounted at `mount`.
std::size_t left_from(std::string group, const std::string& mounted, const std::string& mount, const Version& version) {
    if (mounted != "/" && group.rfind(mounted, 0) == 0) group.erase(0, mounted.size());
    if (group.find("/..") != std::string::npos) group.clear();  // outside the part that a container sees
    std::size_t left = no_limit;
    for (;;) {
        while (!group.empty() && group.back() == '/') group.pop_back();
        left = std::min(left, left_by(mount + group, version));
        if (group.empty()) return left;
        group.erase(group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
    }
}

}  // namespace

std::size_t left_by_memory_groups(const std::string& root) {
    std::string of_first, of_second;
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const std::size_t begin = line.find(':'), end = line.find(':', begin + 1);
        if (begin == std::string::npos || end == std::string::npos) continue;
        const std::string kinds = line.substr(begin + 1, end - begin - 1);
        if (kinds.empty()) of_second = line.substr(end + 1);
        if (has_word(kinds, "memory")) of_first = line.substr(end + 1);
    }
    std::size_t left = no_limit;
    std::ifstream mounts(root + "/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        // "32 31 0:29 ROOT MOUNT options ... - TYPE source options"
        std::istringstream words(line);
        std::string skipped, mounted, mount, type, options;
        words >> skipped >> skipped >> skipped >> mounted >> mount;
        while (words >> skipped && skipped != "-") {
        }
        words >> type >> skipped >> options;
        if (type == first.type && has_word(options, "memory") && !of_first.empty())
            left = std::min(left, left_from(of_first, mounted, root + mount, first));
        if (type == second.type && !of_second.empty())
            left = std::min(left, left_from(of_second, mounted, root + mount, second));
    }
    return left;
}

}  // namespace spikefloss
