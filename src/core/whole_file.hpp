// Writes files whole: under a temporary name in the folder of their target, flushed to the disk, then renamed. A crash
// leaves the old file or the new one. Processes that write the same file at once do not interfere. Also checks which
// files a command may read and overwrite.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace spikefloss {

// A new file beside its target. The name is unique, no link is followed to it, and the umask sets its mode. A target
// that is a symbolic link stays one; the file it leads to is replaced. Every failure is Error(Exit::storage). After it
// the new file is removed and the target is unchanged.
class PartialFile {
public:
    // Removes the files that dead processes left for the same target.
    explicit PartialFile(const std::string& path);
    // Without commit() the new file is removed.
    ~PartialFile();
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;

    const std::string& name() const { return name_; }
    int descriptor() const { return descriptor_; }
    // Flushes the file, gives it the name of the target and flushes the folder.
    void commit();

private:
    std::string path_, target_, name_;
    int descriptor_ = -1;
};

// Flushes the names in a folder to the disk. Some file systems cannot do this, which is no error.
void flush_folder(const std::string& path);
// Flushes the content of a file to the disk; false with errno if that fails.
bool flush_file(const std::string& path);
// Makes a folder and the folders above it, and flushes their names. Error(Exit::storage) names it by `what`.
void make_folder(const std::string& path, const char* what = "folder");

// Writes a text file whole.
void write_whole_file(const std::string& path, const std::string& text);

// Error(Exit::bad_file) unless this path is a regular file that this process may read, and not a folder, FIFO, socket
// or device. It reads nothing and does not wait.
void require_regular_file(const std::string& path);

// An output file that the user names.
struct NamedOutput {
    std::string option;  // "--output"
    std::string path;
    std::string kind;  // "a spectrum that spikefloss wrote"
    // The inputs of the command: files, and directories. A file in a directory is an input unless it is of this kind.
    std::vector<std::string> inputs;
    std::function<bool(const std::string& path)> is_of_kind;  // whether an existing file is of this kind
    bool overwrite = false;                                   // any other file may be replaced, except an input
};

// Error(Exit::usage) unless the output may be written: it may be new, or replace an empty file, one of its kind or,
// with overwrite, any regular file. It must not be an input (by any path or link), a device, a FIFO, a socket or a
// folder. Error(Exit::storage) if its folder is missing or not writable. A command calls it before it computes.
void require_may_write(const NamedOutput& output);

}  // namespace spikefloss
