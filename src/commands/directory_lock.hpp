// Keeps two processes out of one run directory, and tells others that a run goes on: a lock on the file `lock` in it, which
// the system takes away when its holder ends, however it ends. On a file system without locks nothing is kept out.
#pragma once

#include <string>

namespace spikefloss {

class DirectoryLock {
public:
    DirectoryLock() = default;  // holds none
    // Throws Error(Exit::usage) when another process holds the directory, Error(Exit::storage) when the file cannot be made.
    explicit DirectoryLock(const std::string& directory);
    ~DirectoryLock();
    DirectoryLock(DirectoryLock&& other) noexcept;
    DirectoryLock& operator=(DirectoryLock&& other) noexcept;

private:
    int file_ = -1;
};

// The process that holds a directory, "process 1234 on node7"; "" when none does.
std::string holder_of(const std::string& directory);
// Throws Error(Exit::usage) when there is one.
void require_free(const std::string& directory);

}  // namespace spikefloss
