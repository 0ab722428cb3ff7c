#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "actors/link_tls.hpp"

namespace coordinator {

namespace {

constexpr std::string_view white_space = " \t\r\n\v\f";
constexpr std::size_t max_file_size = 64 * 1024;

std::array<unsigned char, 32> derive_key(std::string_view text) {
  std::array<unsigned char, 32> key{};
  char digest[] = "SHA256";
  char label[] = "coordinator link pre-shared key 1";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<char*>(text.data()), text.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, label, sizeof label - 1),
      OSSL_PARAM_construct_end(),
  };
  std::unique_ptr<EVP_KDF, void (*)(EVP_KDF*)> algorithm{EVP_KDF_fetch(nullptr, "HKDF", nullptr), EVP_KDF_free};
  std::unique_ptr<EVP_KDF_CTX, void (*)(EVP_KDF_CTX*)> context{algorithm ? EVP_KDF_CTX_new(algorithm.get()) : nullptr,
                                                               EVP_KDF_CTX_free};
  if (!context || EVP_KDF_derive(context.get(), key.data(), key.size(), parameters) != 1)
    throw std::runtime_error("OpenSSL has no HKDF with SHA-256");
  return key;
}

/// Reads a whole small file through one descriptor, so that what is checked is what is read.
std::string read_secret_file(const std::filesystem::path& path, std::string& text, struct stat& info) {
  file_descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!file || ::fstat(file.get(), &info) != 0)
    return std::strerror(errno);
  if (!S_ISREG(info.st_mode))
    return "not a regular file";
  if (static_cast<std::size_t>(info.st_size) > max_file_size)
    return "larger than 64 KiB";
  text.resize(max_file_size);
  std::size_t size = 0;
  while (size < text.size()) {
    auto n = ::read(file.get(), text.data() + size, text.size() - size);
    if (n < 0)
      return std::strerror(errno);
    if (n == 0)
      break;
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  return {};
}

loaded_secret load(const std::filesystem::path& path, bool others_are_an_error) {
  loaded_secret result;
  std::string text;
  struct stat info {};
  if (auto error = read_secret_file(path, text, info); !error.empty()) {
    result.error = "cannot read the cluster secret file " + path.string() + ": " + error;
    return result;
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    auto complaint =
        "the cluster secret file " + path.string() + " is open to others than its owner; `chmod 600` would close it";
    (others_are_an_error ? result.error : result.warning) = complaint;
  }
  if (others_are_an_error && info.st_uid != ::geteuid())
    result.error = "the cluster secret file " + path.string() + " belongs to another user";
  if (result.error.empty()) {
    result.secret = cluster_secret::from_text(text);
    if (!result.secret)
      result.error = "the cluster secret file " + path.string() + " holds less than " +
                     std::to_string(cluster_secret::min_length) + " characters; `openssl rand -hex 32` makes 64";
  }
  OPENSSL_cleanse(text.data(), text.size());
  return result;
}

std::string random_hex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(raw.data()), static_cast<int>(bytes)) != 1)
    throw std::runtime_error("OpenSSL has no random numbers");
  std::string text;
  for (unsigned char byte : raw) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

/// Empty if the file is there afterwards, whoever made it.
std::string make_secret_file(const std::filesystem::path& path) {
  std::error_code failed;
  std::filesystem::create_directories(path.parent_path(), failed);
  if (failed)
    return failed.message();
  // Written aside and linked into place: a node that starts at the same moment sees the whole file or none, and of
  // two that make one, the first link wins and both read that.
  auto draft = path.string() + "." + random_hex(8);
  file_descriptor file{::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR)};
  if (!file)
    return std::strerror(errno);
  auto written = write_all(file.get(), random_hex(32) + "\n") && ::fsync(file.get()) == 0;
  std::string error;
  if (!written || (::link(draft.c_str(), path.c_str()) != 0 && errno != EEXIST))
    error = std::strerror(errno);
  ::unlink(draft.c_str());
  return error;
}

}  // namespace

std::optional<cluster_secret> cluster_secret::from_text(std::string_view text) {
  auto first = text.find_first_not_of(white_space);
  if (first == std::string_view::npos)
    return std::nullopt;
  text = text.substr(first, text.find_last_not_of(white_space) - first + 1);
  if (text.size() < min_length)
    return std::nullopt;
  cluster_secret result;
  result.key_ = derive_key(text);
  return result;
}

loaded_secret load_cluster_secret(const std::filesystem::path& path) {
  return load(path, false);
}

std::filesystem::path user_secret_file() {
  auto tail = std::filesystem::path{"coordinator"} / "cluster-secret";
  // The specification of XDG_STATE_HOME has relative paths ignored.
  if (auto state = std::getenv("XDG_STATE_HOME"); state && state[0] == '/')
    return state / tail;
  auto home = std::getenv("HOME");
  if (!home || home[0] != '/') {
    auto user = ::getpwuid(::geteuid());
    home = user ? user->pw_dir : nullptr;
  }
  return home && home[0] == '/' ? std::filesystem::path{home} / ".local" / "state" / tail : std::filesystem::path{};
}

loaded_secret load_or_make_user_secret(const std::filesystem::path& path) {
  if (path.empty())
    return {std::nullopt, "there is no home directory for a cluster secret file; name one", {}};
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    if (auto error = make_secret_file(path); !error.empty())
      return {std::nullopt, "cannot make the cluster secret file " + path.string() + ": " + error, {}};
  return load(path, true);
}

}  // namespace coordinator
