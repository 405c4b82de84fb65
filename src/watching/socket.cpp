#include "watching/socket.hpp"

#include "core/error.hpp"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace spikefloss {
namespace {

// Without a socket, errno has the reason.
Socket listen_at(const addrinfo& place) {
    Socket socket(::socket(place.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, place.ai_protocol));
    // A port is free again as soon as its last program has ended. Two programs never share it.
    const int yes = 1;
    if (socket) setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    // Many visitors may connect at the same moment.
    if (!socket || ::bind(socket.get(), place.ai_addr, place.ai_addrlen) != 0 || ::listen(socket.get(), 1024) != 0)
        return Socket();
    return socket;
}

}  // namespace

Socket listen_at(const std::string& address, std::int64_t& port, int more) {
    const std::int64_t asked = port, last = std::min<std::int64_t>(65535, port + more);
    std::string reason;
    for (; port <= last; ++port) {
        addrinfo wanted{}, *list = nullptr;
        wanted.ai_socktype = SOCK_STREAM;
        wanted.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
        const int fault = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &list);
        const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(list, freeaddrinfo);
        errno = 0;
        for (const addrinfo* place = fault ? nullptr : list; place; place = place->ai_next)
            if (Socket socket = listen_at(*place)) return socket;
        if (reason.empty()) reason = fault ? gai_strerror(fault) : std::strerror(errno);
        if (fault || errno != EADDRINUSE) break;
    }
    throw Error(Exit::usage,
                fmt::format("cannot listen at serve.address = \"{}\", serve.port = {}{}: {}", address, asked,
                            more > 0 ? fmt::format(" to {}", last) : "", reason),
                "choose another port (--set serve.port=...), or 0 to serve nothing");
}

std::string url_of(const std::string& address, std::int64_t port) {
    std::string host = address;
    if (address == "0.0.0.0" || address == "::") {
        char name[256] = "";
        host = ::gethostname(name, sizeof name - 1) == 0 && *name ? name : "localhost";
    }
    return host.find(':') == std::string::npos ? fmt::format("http://{}:{}/", host, port)
                                               : fmt::format("http://[{}]:{}/", host, port);
}

}  // namespace spikefloss
