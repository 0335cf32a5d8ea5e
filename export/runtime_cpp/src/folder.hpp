// A bundle's folder as it lies on the disk: what is in it, and the bytes of one file. Links are never followed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace figkd {

using Bytes = std::vector<unsigned char>;

// An open folder; what is read later comes from this very folder, whatever its path names by then.
class Folder {
public:
    // `path` may be reached through a link. Throws Error(refused).
    explicit Folder(const std::string& path);
    ~Folder();
    Folder(Folder&& other) noexcept;
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    Folder& operator=(Folder&&) = delete;

    const std::string& path() const { return path_; }

    // Path (with `/`) and size of every file, at any depth. Throws Error(refused) where something in it is neither a
    // regular file nor a folder with something in it, or where there is too much.
    std::map<std::string, std::uint64_t> listing() const;

    // The names of what is in the folder itself. Throws Error(refused).
    std::vector<std::string> names() const;

    // Bytes of a regular file. Throws Error(refused).
    std::uint64_t size_of(const std::string& name) const;

    // The bytes of a regular file that has exactly `size` of them. Throws Error(refused).
    Bytes read(const std::string& name, std::uint64_t size) const;

    // The bytes of a regular file, in parts. Throws Error(refused).
    void blocks(const std::string& name, const std::function<void(const unsigned char*, std::size_t)>& use) const;

private:
    std::string path_;
    int handle_;
};

}  // namespace figkd
