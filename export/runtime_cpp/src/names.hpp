// Names of files in a bundle: the same file on every file system, and inside the folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace figkd {

// True for a letter, digit or underscore, then those and `.+-`.
bool is_word(std::string_view text);

// What is wrong with a file's name; empty if nothing is.
std::string fault_of_name(std::string_view name);

// What is wrong with names together: twins that differ in case, a file that is a folder too; empty if nothing is.
std::string fault_of_names(std::vector<std::string> names);

}  // namespace figkd
