#include "actors/recovery_note.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "actors/commands.hpp"

namespace coordinator {

namespace {

/// The key comes after a session's numbers and an idempotency key of bounded length.
constexpr std::size_t searched_bytes = 512;

std::string text(const nlohmann::json& object, const char* field) {
  constexpr std::size_t longest = 500;
  auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>().substr(0, longest) : std::string{};
}

}  // namespace

std::optional<recovery_event> recovery_told_by(const log_entry& entry) {
  if (entry.kind != entry_kind::command)
    return std::nullopt;
  auto beginning = std::string_view{entry.payload}.substr(0, searched_bytes);
  if (beginning.find(recovery_actions_prefix) == std::string_view::npos)
    return std::nullopt;
  auto command = decode(entry.payload);
  auto put = command ? std::get_if<put_key>(&command->body) : nullptr;
  if (!put || !put->key.starts_with(recovery_actions_prefix))
    return std::nullopt;
  auto said = nlohmann::json::parse(put->value, nullptr, false);
  if (!said.is_object() || text(said, "strategy").empty())
    return std::nullopt;
  auto action = text(said, "action");
  auto outcome = text(said, "outcome");
  return recovery_event{text(said, "strategy"), text(said, "node"), action.empty() ? outcome : action + " " + outcome,
                        text(said, "detail")};
}

}  // namespace coordinator
