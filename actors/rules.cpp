#include "actors/rules.hpp"

namespace coordinator {

bool defect_set::has(defect) const {
  return false;
}

}  // namespace coordinator
