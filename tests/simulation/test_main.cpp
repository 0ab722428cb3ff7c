#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <spdlog/spdlog.h>

int main(int argc, char** argv) {
  // What the nodes complain of is what was done to them.
  spdlog::set_level(spdlog::level::off);
  return doctest::Context{argc, argv}.run();
}
