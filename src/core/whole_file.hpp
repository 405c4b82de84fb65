// Files that are written whole: under a name of their own in the folder of their target, flushed to the disk, renamed.
// A crash leaves the old file or the new one, and processes that write the same file at once do not meet. And which
// files a command may read, and write over.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace spikefloss {

// A new file beside its target. The name is unique, no link is followed to it, and the umask sets its mode. A target
// that is a symbolic link stays one; the file it leads to is replaced. Every failure is Error(Exit::storage), and then
// the new file is gone and the target is as it was.
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

// Flushes the names in a folder to the disk. Some file systems cannot; that is no error.
void flush_folder(const std::string& path);
// Flushes the content of a file to the disk; false with errno when that fails.
bool flush_file(const std::string& path);
// Makes a folder and those above it, and flushes their names. Error(Exit::storage) that says what it is.
void make_folder(const std::string& path, const char* what = "folder");

// Writes a text file whole.
void write_whole_file(const std::string& path, const std::string& text);

// Error(Exit::bad_file) unless there is a regular file at this path that this process may read: no folder, FIFO, socket
// or device. Nothing is read, nothing is waited for.
void require_regular_file(const std::string& path);

// A file that the user tells a command to write.
struct NamedOutput {
    std::string option;  // "--output"
    std::string path;
    std::string kind;  // "a spectrum that spikefloss wrote"
    // What the command reads: files, and directories whose files count as read unless they are of this kind.
    std::vector<std::string> inputs;
    std::function<bool(const std::string& path)> is_of_kind;  // whether a file that is there is of this kind
    bool overwrite = false;                                   // any other file may be replaced, but no input
};

// Error(Exit::usage) unless the output may be written: it may be new, or replace an empty file, one of its kind or,
// with overwrite, any regular file. It must not be an input, by whatever path or link, nor a device, a FIFO, a socket
// or a folder. Error(Exit::storage) when its folder is missing or not writable. For a command to call before it
// computes.
void require_may_write(const NamedOutput& output);

}  // namespace spikefloss
