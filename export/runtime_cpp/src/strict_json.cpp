#include "strict_json.hpp"

#include <cmath>
#include <set>
#include <vector>

#include "error.hpp"

namespace figkd {
namespace {

constexpr int kDepth = 16;
constexpr double kMostNumber = 1e18;

using Json = nlohmann::json;

// Watches a parser: how deep it is, and which keys each open object has had.
class Watch {
public:
    explicit Watch(const std::string& name) : name_(name) {}

    bool operator()(int depth, Json::parse_event_t event, const Json& value) {
        if (event == Json::parse_event_t::object_start) {
            keys_.emplace_back();
        } else if (event == Json::parse_event_t::object_end) {
            keys_.pop_back();
        } else if (event == Json::parse_event_t::key && !keys_.back().insert(value.get<std::string>()).second) {
            refuse(name_ + " is not JSON that can be used: a key stands in it twice");
        }
        if (event == Json::parse_event_t::value && value.is_number() && !(std::fabs(value.get<double>()) < kMostNumber)) {
            refuse(name_ + " is not JSON that can be used: a number that is too large");
        }
        if (depth > kDepth) {
            refuse(name_ + " is not JSON that can be used: nested more than 16 levels deep");
        }
        return true;
    }

private:
    const std::string& name_;
    std::vector<std::set<std::string>> keys_;
};

}  // namespace

Json read_strict(std::string_view data, const std::string& name, std::size_t most) {
    if (data.size() > most) {
        refuse(name + " has more than " + std::to_string(most) + " bytes");
    }
    Watch watch(name);
    Json value = Json::parse(
        data.begin(), data.end(),
        [&watch](int depth, Json::parse_event_t event, Json& parsed) { return watch(depth, event, parsed); },
        /* allow_exceptions */ false);
    if (value.is_discarded() || data.find('\0') != std::string_view::npos) {
        refuse(name + " is not JSON that can be used: it does not parse");
    }
    return value;
}

}  // namespace figkd
