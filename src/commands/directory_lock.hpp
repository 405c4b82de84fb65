// Keeps two processes out of one run directory, and tells others that a run goes on: a lock on the file `lock` in it,
// which the system takes away when its holder ends, however it ends. A file system without locks keeps nothing out.
// Only the owner of the file can open it: to others, a run that goes on looks stopped.
#pragma once

#include <string>

namespace spikefloss {

class DirectoryLock {
public:
    DirectoryLock() = default;  // holds none
    // Throws Error(Exit::usage) when another process holds the directory, Error(Exit::storage) without a file.
    explicit DirectoryLock(const std::string& directory);
    ~DirectoryLock();
    bool held() const { return file_ >= 0; }
    DirectoryLock(DirectoryLock&& other) noexcept;
    DirectoryLock& operator=(DirectoryLock&& other) noexcept;

private:
    int file_ = -1;
};

// The process that holds a directory, "process 1234 on node7", or "another process" where the file names none that
// lives;
// "" when none does.
std::string holder_of(const std::string& directory);
// Throws Error(Exit::usage) when there is one.
void require_free(const std::string& directory);

}  // namespace spikefloss
