#include "actors/file_check.hpp"

#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "persistence/verify.hpp"

namespace coordinator {
namespace {

// Of the time of a thread that has none but idle time: what a read transaction keeps from being reset stays small.
constexpr double share = 0.5;

}  // namespace

file_check::file_check(file_check_settings settings) : settings_(std::move(settings)), thread_([this] { run(); }) {}

file_check::~file_check() {
  stop_ = true;
  thread_.join();
}

void file_check::run() noexcept {
  sched_param none{};
  if (::pthread_setschedparam(::pthread_self(), SCHED_IDLE, &none) != 0)
    spdlog::debug("the check of the files runs at the priority of everything else");
  if (settings_.level != verify_level::off) {
    check_log();
    check_state();
    if (!stop_)
      spdlog::info("the check of the files after the start has ended");
  }
  settings_.done();
}

void file_check::check_log() const {
  const auto path = settings_.files->path("raft.db");
  try {
    auto problem = quick_check(path, settings_.files->vfs(), stop_);
    if (!problem)
      problem = scan_log(path, settings_.files->vfs(), stop_, share);
    if (problem && !stop_)
      settings_.log_damaged(*problem);
  } catch (const std::exception& e) {
    // Whether it can be written is for its writer to find out.
    spdlog::warn("raft.db could not be checked: {}", e.what());
  }
}

void file_check::check_state() const {
  const auto name = settings_.state_file->get();
  const auto path = settings_.files->path(name);
  // A file that has been replaced meanwhile is of no interest, and the one in its place has been read from end to end.
  const auto counts = [&] { return !stop_ && settings_.state_file->get() == name; };
  try {
    auto problem = quick_check(path, settings_.files->vfs(), stop_);
    if (!problem && settings_.level == verify_level::full)
      problem = full_check_state(path, settings_.files->vfs(), stop_, share);
    if (problem && counts())
      settings_.state_damaged(*problem);
  } catch (const std::exception& e) {
    if (counts())
      spdlog::warn("{} could not be checked: {}", name, e.what());
  }
}

}  // namespace coordinator
