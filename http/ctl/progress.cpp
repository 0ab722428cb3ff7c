#include "http/ctl/progress.hpp"

#include <cstdio>
#include <ostream>
#include <utility>

namespace coordinator::ctl {

progress::progress(std::ostream& out, bool terminal, std::string what)
    : out_(out), terminal_(terminal), what_(std::move(what)) {}

progress::~progress() {
  if (line_open_)
    out_ << std::endl;
}

void progress::show(std::size_t done, std::size_t total) {
  auto tenth = total == 0 ? 10 : static_cast<int>(done * 10 / total);
  if (!terminal_ && tenth == last_tenth_)
    return;
  last_tenth_ = tenth;
  auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  char figures[96];
  std::snprintf(figures, sizeof figures, "%zu of %zu done (%d %%), %.0f s", done, total,
                static_cast<int>(total == 0 ? 100 : done * 100 / total), seconds);
  out_ << (terminal_ ? "\r\033[K" : "") << what_ << ": " << figures;
  if (terminal_)
    out_.flush();
  else
    out_ << std::endl;
  line_open_ = terminal_;
}

}  // namespace coordinator::ctl
