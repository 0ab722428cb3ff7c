#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <stdexcept>

#include "actors/link_socket.hpp"

namespace coordinator {

/// Takes a free port of loopback that the system picks. While the descriptor is open the system gives the port to
/// nobody else, yet a program that is told the number can listen on it. Throws std::runtime_error if there is none.
inline file_descriptor reserve_port(std::uint16_t& port) {
  file_descriptor socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("no free port");
  port = local_port(socket.get());
  return socket;
}

}  // namespace coordinator
