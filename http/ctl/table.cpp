#include "http/ctl/table.hpp"

#include <algorithm>
#include <ostream>

namespace coordinator::ctl {

namespace {

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

}  // namespace

std::string for_terminal(const std::string& text, std::size_t width) {
  std::string result;
  std::size_t characters = 0;
  auto cut = width != 0 && width_of(text) > width;
  for (auto c : text) {
    if (cut && begins_character(c) && ++characters >= width)
      break;
    auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  return cut ? result + "…" : result;
}

void table::print(std::ostream& out) const {
  std::vector<std::size_t> widths;
  for (auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths.resize(std::max(widths.size(), row.size()));
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  for (auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += for_terminal(row[i]);
      if (i + 1 < row.size())
        line.append(widths[i] - width_of(row[i]) + 2, ' ');
    }
    out << line << "\n";
  }
}

}  // namespace coordinator::ctl
