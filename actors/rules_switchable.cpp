#include "actors/rules.hpp"

namespace coordinator {

bool defect_set::has(defect d) const {
  return bits_.test(static_cast<std::size_t>(d));
}

}  // namespace coordinator
