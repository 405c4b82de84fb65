// A file descriptor that is closed with its owner, and the sockets to listen with.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

namespace spikefloss {

class Socket {
public:
    explicit Socket(int number = -1) : number_(number) {}
    Socket(Socket&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Socket() {
        if (number_ >= 0) ::close(number_);
    }
    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }

private:
    int number_;
};

// A socket that listens at serve.address, serve.port, and does not block. Throws Error(Exit::usage) with the reason of
// the system. `more`: number of later ports that are tried if the port is in use; then `port` becomes the port in use.
Socket listen_at(const std::string& address, std::int64_t& port, int more);

// The address for a browser: IPv6 addresses in brackets; for "all addresses" the name of this machine.
std::string url_of(const std::string& address, std::int64_t port);

}  // namespace spikefloss
