#include "commands/directory_lock.hpp"

#include "core/error.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace spikefloss {
namespace {

// Locks belong to the open file, not to the process: closing another descriptor of the file does not release them.
struct flock whole_file() {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
}

bool held_by_another(int fault) { return fault == EAGAIN || fault == EACCES; }

std::string host_name() {
    std::array<char, 256> host = {};
    ::gethostname(host.data(), host.size() - 1);
    return host.data();
}

// Whether "process N on HOST" can hold a lock: a process of another machine, or a living process of this machine.
bool may_live(const std::string& text) {
    int process = 0, end = 0;
    if (std::sscanf(text.c_str(), "process %d on %n", &process, &end) != 1 || process <= 0 || end == 0) return false;
    return text.substr(static_cast<std::size_t>(end)) != host_name() || ::kill(process, 0) == 0 || errno == EPERM;
}

}  // namespace

DirectoryLock::DirectoryLock(const std::string& directory) {
    const std::string path = directory + "/lock";
    // A user who can open the file can lock it and so block runs. So only its owner can open it.
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    require(file_ >= 0, Exit::storage, fmt::format("cannot write {}: {}", path, std::strerror(errno)),
            errno == EACCES && ::access(directory.c_str(), W_OK) == 0
                ? "the lock belongs to another user; when no run uses the directory, remove that file"
                : "choose a run directory that you may write to (--run-dir)");
    if (::fchmod(file_, 0600) != 0) errno = 0;  // for a file of an older version; fails for another user
    struct flock lock = whole_file();
    if (::fcntl(file_, F_OFD_SETLK, &lock) != 0 && held_by_another(errno)) {
        ::close(std::exchange(file_, -1));
        require_free(directory);
        throw Error(Exit::usage, directory + " is in use by another process", "wait until it has ended");
    }
    const std::string text = fmt::format("process {} on {}\n", ::getpid(), host_name());
    // The text is for people only, so a failed write does not stop the run.
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
    // Queries the lock and does not take it: taking it could block a run that starts at this moment.
    if (::fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
        std::array<char, 512> text = {};
        const ssize_t count = ::read(file, text.data(), text.size() - 1);
        holder = count > 0 ? std::string(text.data(), std::strcspn(text.data(), "\n")) : "";
        if (!may_live(holder)) holder = "another process";
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
