#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

namespace fs = std::filesystem;

namespace {

const fs::path root{COORDINATOR_SOURCE_DIR};

std::string text_of(const fs::path& path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

}  // namespace

TEST_CASE("docs: every file of code is in the architecture page's map") {
  auto map = text_of(root / "docs/architecture.md");
  map = map.substr(map.find("## Map of the files"));
  int files = 0;
  for (auto folder : {"actors", "http", "persistence"}) {
    // Names may repeat in other folders, as main does: a folder of its own has a line of its own.
    for (auto& entry : fs::recursive_directory_iterator(root / folder)) {
      auto extension = entry.path().extension();
      if (extension != ".hpp" && extension != ".cpp")
        continue;
      ++files;
      auto file = entry.path().lexically_relative(root).string();
      CAPTURE(file);
      CHECK(map.find("`" + entry.path().stem().string() + "`") != std::string::npos);
      auto parent = entry.path().parent_path().filename().string();
      if (parent != folder)
        CHECK(map.find("`" + parent + "/`") != std::string::npos);
    }
  }
  CHECK(files > 100);
}

TEST_CASE("docs: links between pages lead somewhere") {
  std::vector<fs::path> pages{root / "README.md", root / "examples/README.md"};
  for (auto& entry : fs::directory_iterator(root / "docs"))
    if (entry.path().extension() == ".md")
      pages.push_back(entry.path());
  const std::regex link{R"(\]\(([^)#:]+)(#[^)]*)?\))"};
  int links = 0;
  for (auto& page : pages) {
    auto text = text_of(page);
    REQUIRE(!text.empty());
    for (std::sregex_iterator i{text.begin(), text.end(), link}, end; i != end; ++i) {
      ++links;
      auto name = page.filename().string();
      auto target = (*i)[1].str();
      CAPTURE(name);
      CAPTURE(target);
      CHECK(fs::exists(page.parent_path() / target));
    }
  }
  CHECK(links > 5);
}

TEST_CASE("docs: includes point one way, from http to actors to persistence") {
  const std::regex include{"#include \"(actors|http|persistence|tests)/"};
  for (auto folder : {"actors", "persistence"})
    for (auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.path().filename() == "main.cpp" || !entry.is_regular_file())
        continue;
      auto text = text_of(entry.path());
      auto file = entry.path().lexically_relative(root).string();
      CAPTURE(file);
      for (std::sregex_iterator i{text.begin(), text.end(), include}, end; i != end; ++i) {
        auto to = (*i)[1].str();
        CHECK(to != "http");
        CHECK(to != "tests");
        CHECK((to != "actors" || std::string{folder} == "actors"));
      }
    }
}
