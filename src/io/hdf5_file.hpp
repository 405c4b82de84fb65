// HDF5 files: InputFile reads one on each rank by itself, OutputFile writes one from all ranks at once.
//
// Files hold global arrays, never pieces per rank, so any grid can read what any other wrote. Every dataset has a
// checksum that does not depend on the grid (io/hdf5_checksum.hpp).
#pragma once

#include "core/whole_file.hpp"
#include "io/hdf5_handle.hpp"
#include "parallel/process_grid.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace spikefloss {

using AttributeValue = std::variant<std::string, double, std::int64_t>;

// Whether a file is compressed as a whole by gzip.
bool is_gzip(const std::string& path);
// A new file in TMPDIR, removed at the end.
class TemporaryFile {
public:
    TemporaryFile();
    ~TemporaryFile();
    TemporaryFile(const TemporaryFile&) = delete;
    const std::string& name() const { return name_; }
    int descriptor() const { return descriptor_; }

private:
    std::string name_;
    int descriptor_ = -1;
};
// Unpacks a file. progress() is called after every piece.
void unpack_gzip(const std::string& path, const TemporaryFile& to, const std::function<void()>& progress);

// A file open for reading, also if it is gzip-compressed as a whole. Data in other files (external links and storage,
// virtual datasets) are refused. Every failure is Error(Exit::bad_file) naming file and object. Names are paths such as
// "/network/w_rec". T is float, double, int32, int64 or uint8; files may hold any integer, float or boolean type. A
// value that is not finite, or not whole if T is an integer, is an error that names its index.
class InputFile {
public:
    explicit InputFile(std::string path, const std::function<void()>& progress = {});

    const std::string& path() const { return path_; }
    bool has(const std::string& name) const;
    bool has_attribute(const std::string& object, const std::string& name) const;

    // From now on the axes of all datasets are reversed, for files of programs that store columns first.
    void reverse_axes() { reversed_ = true; }
    bool reversed() const { return reversed_; }

    // The dimensions of a dataset; none for a scalar.
    std::vector<Index> shape(const std::string& name) const;
    // The same for a reader that needs `rank` dimensions. If axes are reversed, dimensions of 1 are left out or added
    // at the end to fit: MATLAB has matrices [1, N] for vectors and has no last dimension of 1.
    std::vector<Index> shape(const std::string& name, std::size_t rank) const;
    // Throws unless the dataset has this shape. letters names the dimensions ("[N, N]"); reason says why.
    void require_shape(const std::string& name, const std::vector<Index>& shape, const std::string& letters,
                       const std::string& reason) const;
    // The suggestion for axes in an unexpected order.
    const char* order_advice() const;
    // The whole dataset, and the block [offset, offset + count) of it, row-major.
    template <class T>
    std::vector<T> read(const std::string& name) const;
    template <class T>
    std::vector<T> read(const std::string& name, const std::vector<Index>& offset,
                        const std::vector<Index>& count) const;
    template <class T>
    void read(const std::string& name, const std::vector<Index>& offset, const std::vector<Index>& count, T* out) const;

    // Whether the elements of a dataset are lists of numbers ("vlen"), and whether all its numbers are integers.
    bool holds_lists(const std::string& name) const;
    bool holds_whole_numbers(const std::string& name) const;
    // The lists [first, first + count) of such a dataset.
    void read_lists(const std::string& name, Index first, Index count, std::vector<std::vector<double>>& lists) const;
    // The names in a group, in their order; and a dataset of texts, row-major.
    std::vector<std::string> members(const std::string& group) const;
    std::vector<std::string> texts(const std::string& name) const;
    // Whether there is a dataset of this kind.
    bool holds_text(const std::string& name) const;
    bool holds_numbers(const std::string& name) const;

    // Reads the dataset in blocks and discards it. If it is contiguous, reads only the first and the last block,
    // because only the numbers differ in between; of a large one with chunks, some blocks. progress() is called after
    // every block.
    void touch(const std::string& name, const std::function<void()>& progress) const;

    // Throws if a block of this size, `bytes` an element, takes more memory than the machine has.
    void require_room(const std::string& name, const std::vector<Index>& count, Index bytes) const;

    // Attributes of a group or dataset. A number may be stored as any numeric type, a whole one also as a whole float.
    std::string string_attribute(const std::string& object, const std::string& name) const;
    double number_attribute(const std::string& object, const std::string& name) const;
    std::int64_t integer_attribute(const std::string& object, const std::string& name) const;

    // Error(Exit::bad_file) about this file.
    [[noreturn]] void fail(const std::string& problem, const std::string& suggestion) const;

    hid_t id() const { return file_; }

private:
    void open(const std::string& place);
    // The path of an object by hard links alone, "" if there is none.
    std::string resolved(const std::string& name, int links = 0) const;
    Hdf5Handle open_dataset(const std::string& name) const;
    H5T_class_t class_of(const std::string& name) const;
    std::vector<Index> stored_shape(const std::string& name) const;
    Hdf5Handle open_attribute(const std::string& object, const std::string& name) const;

    std::string path_;
    Hdf5Handle file_;
    bool reversed_ = false;
};

// A contiguous row-major block of a global dataset.
template <class T>
struct Block {
    std::vector<Index> offset, count;
    const T* data;
};

// A file of global datasets written by all ranks through parallel HDF5. It has a temporary name until it is complete
// and on disk (core/whole_file.hpp). All functions are collective, with the same arguments on every rank except for the
// blocks. After a failure on any rank, every rank throws Error(Exit::storage), the partial file is removed and an
// earlier file at `path` is unchanged. Without finish() no file is left either.
class OutputFile {
public:
    // Upper bound of the bytes that the library adds to the data of an object (with the groups on its path).
    static constexpr Index object_overhead = 16 << 10;

    OutputFile(const ProcessGrid& grid, const std::string& path);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    // An attribute of an object; a group is created if there is no such object yet. "/" is the file itself.
    void attribute(const std::string& object, const std::string& name, const AttributeValue& value);
    // A dataset of T = float, double, int32, int64 or uint8 with these dimensions (none: a scalar). The blocks of all
    // ranks together must cover it exactly once: for replicated data one rank passes the block and the others none.
    // Missing groups on its path are created.
    template <class T>
    void dataset(const std::string& name, const std::vector<Index>& dims, const std::vector<Block<T>>& blocks);
    // A dataset of texts, row-major. On one rank: parallel HDF5 cannot write texts.
    void texts(const std::string& name, const std::vector<Index>& dims, const std::vector<std::string>& values);
    void finish();

private:
    void agree(const std::function<void()>& work);
    void reserve(Index bytes);
    int fault_of_reserving(Index end) const;
    void ensure_group(const std::string& object);
    void start_file();
    void share_name();
    void write_attribute(const std::string& object, const std::string& name, const AttributeValue& value);
    void complete();
    void abandon();
    void forget();
    std::string problem(const std::string& reason) const;

    std::unique_lock<std::recursive_mutex> lock_{hdf5_mutex()};  // a thread may read sequences at the same time
    const ProcessGrid& grid_;
    std::string path_, name_;             // the latter until it is complete
    std::optional<PartialFile> partial_;  // on rank 0
    Hdf5Handle file_, dataset_;           // the latter while it is written
    Index planned_ = 0;                   // upper bound of the file's present size
    Index reserved_ = 0;                  // bytes reserved on the storage
    std::uint64_t attributes_ = 0;        // running checksum of all attributes
    bool open_ = false;
};

}  // namespace spikefloss
