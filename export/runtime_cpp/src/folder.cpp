#include "folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "error.hpp"
#include "manifest.hpp"
#include "text.hpp"

namespace figkd {
namespace {

constexpr int kMostDepth = 32;
constexpr std::size_t kBlock = 1u << 20;
constexpr int kFileFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
constexpr int kFolderFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY;

class Handle {
public:
    explicit Handle(int value) : value_(value) {}
    Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(value_, other.value_);
        return *this;
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
        if (value_ >= 0) {
            ::close(value_);
        }
    }
    int get() const { return value_; }

private:
    int value_;
};

struct CloseFolder {
    void operator()(DIR* folder) const { ::closedir(folder); }
};
using Entries = std::unique_ptr<DIR, CloseFolder>;

std::string reason(int number) { return std::strerror(number); }

// Each part of the name is opened from the folder before it, so that no part can be a link.
Handle open_inside(int folder, const std::string& name, int flags) {
    Handle at(::dup(folder));
    for (std::size_t start = 0;;) {
        const std::size_t end = name.find('/', start);
        const bool last = end == std::string::npos;
        const std::string part = name.substr(start, last ? end : end - start);
        Handle next(::openat(at.get(), part.c_str(), last ? flags : kFolderFlags));
        if (next.get() < 0) {
            if (errno == ENOENT || errno == ENOTDIR) {
                refuse(shown(name) + " is missing in the bundle");
            }
            refuse(shown(name) + " in the bundle cannot be read: " + (errno == ELOOP ? "it is a link" : reason(errno)));
        }
        if (last) {
            return next;
        }
        at = std::move(next);
        start = end + 1;
    }
}

struct stat facts_of(int handle, const std::string& name) {
    struct stat facts = {};
    if (::fstat(handle, &facts) != 0) {
        refuse(shown(name) + " in the bundle cannot be read: " + reason(errno));
    }
    return facts;
}

Handle open_file(int folder, const std::string& name) {
    Handle handle = open_inside(folder, name, kFileFlags);
    if (!S_ISREG(facts_of(handle.get(), name).st_mode)) {
        refuse(shown(name) + " in the bundle is no regular file");
    }
    return handle;
}

// Up to `size` bytes; fewer at the end of the file only.
std::size_t read_some(int handle, unsigned char* out, std::size_t size, const std::string& name) {
    std::size_t done = 0;
    while (done < size) {
        const ssize_t count = ::read(handle, out + done, std::min(size - done, kBlock * 16));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            refuse(shown(name) + " in the bundle cannot be read: " + reason(errno));
        }
        if (count == 0) {
            break;
        }
        done += static_cast<std::size_t>(count);
    }
    return done;
}

void check_size(std::uint64_t found, const std::string& name, std::uint64_t size) {
    if (found != size) {
        refuse(
            name + " has " + (found > size ? "more" : "fewer") + " bytes than the " + std::to_string(size) +
            " in the manifest");
    }
}

// Calls `use` with the name of each entry; false where there is none.
bool each_entry(int folder, const std::string& name, const std::function<void(const std::string&)>& use) {
    const Entries entries(::fdopendir(::openat(folder, ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY)));
    if (!entries) {
        refuse(shown(name) + " cannot be read: " + reason(errno));
    }
    bool any = false;
    for (errno = 0; const dirent* entry = ::readdir(entries.get()); errno = 0) {
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
            any = true;
            use(entry->d_name);
        }
    }
    if (errno != 0) {
        refuse(shown(name) + " cannot be read: " + reason(errno));
    }
    return any;
}

std::string real_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr), &std::free);
    if (!found) {
        refuse(shown(path) + " cannot be read: " + reason(errno), "give the folder of a bundle");
    }
    return found.get();
}

}  // namespace

Folder::Folder(const std::string& path)
    : path_(real_path(path)), handle_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY)) {
    if (handle_ < 0) {
        refuse(
            shown(path_) + (errno == ENOTDIR ? " is no folder" : " cannot be read: " + reason(errno)),
            "give the folder of a bundle");
    }
}

Folder::~Folder() {
    if (handle_ >= 0) {
        ::close(handle_);
    }
}

Folder::Folder(Folder&& other) noexcept : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, -1)) {}

std::map<std::string, std::uint64_t> Folder::listing() const {
    std::map<std::string, std::uint64_t> found;
    std::vector<std::pair<std::string, int>> waiting = {{"", 0}};
    while (!waiting.empty()) {
        const std::string prefix = waiting.back().first;
        const int depth = waiting.back().second;
        waiting.pop_back();
        const std::string inner = prefix.empty() ? "." : prefix.substr(0, prefix.size() - 1);
        const Handle handle = open_inside(handle_, inner, kFolderFlags);
        const bool whole = each_entry(handle.get(), inner, [&](const std::string& entry) {
            const std::string name = prefix + entry;
            struct stat facts = {};
            if (::fstatat(handle.get(), entry.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) {
                refuse(shown(name) + " in the bundle cannot be read: " + reason(errno));
            }
            if (S_ISDIR(facts.st_mode) && depth < kMostDepth) {
                waiting.emplace_back(name + "/", depth + 1);
            } else if (S_ISREG(facts.st_mode)) {
                found[name] = static_cast<std::uint64_t>(facts.st_size);
            } else {
                refuse(shown(name) + " in the bundle is " + (S_ISLNK(facts.st_mode) ? "a link" : "no regular file"));
            }
            if (found.size() + waiting.size() > kMostFiles + 1) {
                refuse("the bundle holds more than " + std::to_string(kMostFiles) + " files");
            }
        });
        if (!whole && !prefix.empty()) {
            refuse(shown(inner) + " in the bundle is an empty folder");
        }
    }
    return found;
}

std::vector<std::string> Folder::names() const {
    std::vector<std::string> found;
    each_entry(handle_, path_, [&](const std::string& name) { found.push_back(name); });
    return found;
}

std::uint64_t Folder::size_of(const std::string& name) const {
    const Handle handle = open_file(handle_, name);
    return static_cast<std::uint64_t>(facts_of(handle.get(), name).st_size);
}

Bytes Folder::read(const std::string& name, std::uint64_t size) const {
    const Handle handle = open_file(handle_, name);
    check_size(static_cast<std::uint64_t>(facts_of(handle.get(), name).st_size), name, size);
    Bytes data;
    try {
        data.resize(size);
    } catch (const std::bad_alloc&) {
        throw Error(Code::cannot_run, "there is not enough memory to read " + name);
    } catch (const std::length_error&) {
        throw Error(Code::cannot_run, name + " is larger than the memory of this machine");
    }
    unsigned char beyond = 0;
    const std::size_t done = read_some(handle.get(), data.data(), data.size(), name);
    check_size(done + read_some(handle.get(), &beyond, 1, name), name, size);
    return data;
}

void Folder::blocks(
    const std::string& name, const std::function<void(const unsigned char*, std::size_t)>& use) const {
    const Handle handle = open_file(handle_, name);
    Bytes block(kBlock);
    while (const std::size_t count = read_some(handle.get(), block.data(), block.size(), name)) {
        use(block.data(), count);
    }
}

}  // namespace figkd
