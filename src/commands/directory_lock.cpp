#include "commands/directory_lock.hpp"

#include "core/error.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace spikefloss {
namespace {

// Locks of the open file, not of the process: nothing else that the process opens and closes takes them away.
struct flock whole_file() {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
}

bool held_by_another(int fault) { return fault == EAGAIN || fault == EACCES; }

}  // namespace

DirectoryLock::DirectoryLock(const std::string& directory) {
    const std::string path = directory + "/lock";
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    require(file_ >= 0, Exit::storage, fmt::format("cannot write {}: {}", path, std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir)");
    struct flock lock = whole_file();
    if (::fcntl(file_, F_OFD_SETLK, &lock) != 0 && held_by_another(errno)) {
        ::close(std::exchange(file_, -1));
        require_free(directory);
        throw Error(Exit::usage, directory + " is in use by another process", "wait until it has ended");
    }
    std::array<char, 256> host = {};
    ::gethostname(host.data(), host.size() - 1);
    const std::string text = fmt::format("process {} on {}\n", ::getpid(), host.data());
    // Only for people: what cannot be noted is no reason to stop a run.
    if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, text.data(), text.size(), 0) < 0) return;
}

DirectoryLock::~DirectoryLock() {
    if (file_ >= 0) ::close(file_);
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
}

std::string holder_of(const std::string& directory) {
    const int file = ::open((directory + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return "";
    struct flock lock = whole_file();
    std::string holder;
    // Asks without taking it, which could keep out a run that starts at this moment.
    if (::fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
        std::array<char, 512> text = {};
        const ssize_t count = ::read(file, text.data(), text.size() - 1);
        holder = count > 0 ? std::string(text.data(), std::strcspn(text.data(), "\n")) : "another process";
    }
    ::close(file);
    return holder;
}

void require_free(const std::string& directory) {
    const std::string holder = holder_of(directory);
    require(holder.empty(), Exit::usage, fmt::format("{} is in use by {}", directory, holder),
            "wait until it has ended; if its machine is gone for good, remove the file lock in the directory");
}

}  // namespace spikefloss
