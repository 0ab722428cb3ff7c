#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace coordinator {

/// A small file system of its own at a node's data directory, where the system allows that.
class small_disk {
 public:
  explicit small_disk(std::string directory) : directory_(std::move(directory)) {
    std::filesystem::create_directories(directory_);
    mounted_ = ::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=24m,mode=0700") == 0;
  }
  ~small_disk() {
    if (mounted_)
      ::umount2(directory_.c_str(), MNT_DETACH);
  }
  small_disk(const small_disk&) = delete;
  small_disk& operator=(const small_disk&) = delete;

  bool mounted() const { return mounted_; }
  /// Takes all the room that is left.
  void fill() {
    std::ofstream file{directory_ + "/ballast", std::ios::binary};
    std::string block(1 << 16, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void make_room() { std::filesystem::remove(directory_ + "/ballast"); }

 private:
  std::string directory_;
  bool mounted_ = false;
};

}  // namespace coordinator
