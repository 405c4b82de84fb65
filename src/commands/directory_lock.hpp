// Prevents two processes from using one run directory, and shows that a run is in progress: a lock on the file `lock`
// in it. The system releases the lock when its holder ends for any reason. A file system without locks gives no
// protection. Only the owner of the file can open it: to other users, a run in progress looks stopped.
#pragma once

#include <string>

namespace spikefloss {

class DirectoryLock {
public:
    DirectoryLock() = default;  // holds none
    // Throws Error(Exit::usage) if another process holds the directory, Error(Exit::storage) if it has no file.
    explicit DirectoryLock(const std::string& directory);
    ~DirectoryLock();
    bool held() const { return file_ >= 0; }
    DirectoryLock(DirectoryLock&& other) noexcept;
    DirectoryLock& operator=(DirectoryLock&& other) noexcept;

private:
    int file_ = -1;
};

// The process that holds a directory: "process 1234 on node7", or "another process" if the file names no living
// process. "" if no process holds it.
std::string holder_of(const std::string& directory);
// Throws Error(Exit::usage) if a process holds the directory.
void require_free(const std::string& directory);

}  // namespace spikefloss
