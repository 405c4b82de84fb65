// Writes HDF5 files from all ranks through parallel HDF5 (the mpio driver).
//
// Two decisions follow from tests of faults with Open MPI 4.1 (both its own MPI-IO and ROMIO) and HDF5 1.10:
// - If a write fails within a collective transfer, or while the library flushes its metadata, the other ranks wait
//   without end, or a segmentation fault follows. So posix_fallocate reserves the space before the library makes a
//   dataset: a full disk, a quota or a limit on file sizes appears there, in a plain system call on one rank.
// - Independent transfers report a failed write on the rank that made it and return on all ranks, so they are used
//   throughout. Every rank writes a few long contiguous pieces, so they are also 2 to 3 times faster.
#include "core/error.hpp"
#include "io/build_text.hpp"
#include "io/hdf5_checksum.hpp"
#include "io/hdf5_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace spikefloss {
namespace {

// Upper bounds of the bytes that the library adds to the data: for the file, and for an attribute beside its value.
// complete() checks them.
constexpr Index file_overhead = 16 << 10, attribute_overhead = 2 << 10;

// MPI-IO counts bytes with int: longer blocks are written in pieces.
constexpr Index piece_bytes = Index(1) << 28;

const char* const faulty_storage = "check whether the storage is full or faulty; an earlier file is unchanged";

template <class T>
hid_t file_type();
template <>
hid_t file_type<float>() {
    return H5T_IEEE_F32LE;
}
template <>
hid_t file_type<double>() {
    return H5T_IEEE_F64LE;
}
template <>
hid_t file_type<std::int32_t>() {
    return H5T_STD_I32LE;
}
template <>
hid_t file_type<std::int64_t>() {
    return H5T_STD_I64LE;
}
template <>
hid_t file_type<std::uint8_t>() {
    return H5T_STD_U8LE;
}

Index elements(const std::vector<Index>& count) {
    Index product = 1;
    for (Index size : count) product *= size;
    return product;
}

// The format of HDF5 1.8 (2008), which every later library reads. Unlike the oldest one it protects the library's own
// structures with checksums, so that a damaged file is refused and not misread.
// PartialFile holds a lock. The library's own lock would conflict with it on a network file system.
void set_format(hid_t access) {
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    H5Pset_file_locking(access, false, true);
}

template <class T>
bool write_block(hid_t dataset, const std::vector<Index>& dims, const Block<T>& block) {
    const Index total = elements(block.count);
    if (total == 0) return true;
    const Index rows = block.count.empty() ? 1 : block.count[0], row = total / rows;
    const Index step = std::max<Index>(1, piece_bytes / (row * static_cast<Index>(sizeof(T))));
    for (Index first = 0; first < rows; first += step) {
        std::vector<Index> offset = block.offset, count = block.count;
        if (!count.empty()) {
            offset[0] += first;
            count[0] = std::min(step, rows - first);
        }
        const Hdf5Handle memory = hdf5_space(count), selection = hdf5_space(dims, offset, count);
        if (!selection ||
            H5Dwrite(dataset, hdf5_native<T>(), memory, selection, H5P_DEFAULT, block.data + first * row) < 0)
            return false;
    }
    return true;
}

}  // namespace

OutputFile::OutputFile(const ProcessGrid& grid, const std::string& path) : grid_(grid), path_(path) {
    silence_hdf5();
    agree([&] { start_file(); });
    share_name();
    reserve(file_overhead);
    agree([&] {
        Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
        set_format(access);
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);  // even if a failure leaves a dataset open
        if (grid_.ranks() > 1) H5Pset_fapl_mpio(access, grid_.control().handle(), MPI_INFO_NULL);
        file_ = Hdf5Handle(H5Fopen(name_.c_str(), H5F_ACC_RDWR, access), H5Fclose);
        require(static_cast<bool>(file_), Exit::storage,
                problem("parallel HDF5 cannot open the file: " + hdf5_reason()),
                "the folder must be visible to all ranks: use a shared file system if there is more than one machine");
    });
    open_ = true;
    attribute("/", "spikefloss_version", version_text());
}

OutputFile::~OutputFile() { forget(); }

// Does nothing collective, because the other ranks may not be here during an exception. Closing a parallel file is
// collective, and closing a dataset may be. The library closes both when MPI is finalized.
void OutputFile::forget() {
    partial_.reset();
    dataset_.release();
    file_.release();
}

std::string OutputFile::problem(const std::string& reason) const {
    return fmt::format("cannot write {}: {}", path_, reason);
}

void OutputFile::agree(const std::function<void()>& work) {
    try {
        grid_.agree(work);
    } catch (const Error& error) {
        if (error.collective)
            abandon();
        else
            forget();  // no destructor runs after a constructor that throws
        throw;
    }
}

// Collective. All that the library still writes is within the reserved space.
void OutputFile::abandon() {
    dataset_.reset();
    file_.reset();
    open_ = false;
    partial_.reset();
}

// Rank 0: a file without objects, made by the ordinary driver. Its space is reserved first, as for all else.
void OutputFile::start_file() {
    if (grid_.rank() != 0) return;
    const char* suggestion = "choose a folder that exists, that you may write to and that has space left";
    partial_.emplace(path_);
    name_ = partial_->name();
    const int fault = fault_of_reserving(file_overhead);
    require(fault == 0, Exit::storage, problem(std::strerror(fault)), suggestion);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    set_format(access);
    Hdf5Handle file(H5Fcreate(name_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
    require(file && file.reset(), Exit::storage, problem(hdf5_reason()), suggestion);
}

// The name that rank 0 chose, on every rank.
void OutputFile::share_name() {
    auto length = static_cast<std::int64_t>(name_.size());
    grid_.control().broadcast(&length, sizeof length, 0);
    name_.resize(static_cast<std::size_t>(length));
    grid_.control().broadcast(name_.data(), length, 0);
}

// Reserves storage up to `end`. 0, or an errno. Rank 0 reserves; every rank checks its own limit.
int OutputFile::fault_of_reserving(Index end) const {
    rlimit limit{};
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        static_cast<rlim_t>(end) > limit.rlim_cur)
        return EFBIG;
    return partial_ ? posix_fallocate(partial_->descriptor(), reserved_, end - reserved_) : 0;
}

// Reserves space for `bytes` more.
void OutputFile::reserve(Index bytes) {
    planned_ += bytes;
    if (planned_ <= reserved_) return;
    // It reserves more than needed, so that small things need no agreement of their own.
    const Index wanted = planned_ + (Index(64) << 10);
    agree([&] {
        const int fault = fault_of_reserving(wanted);
        require(fault == 0, Exit::storage,
                problem(fmt::format("{} (at least {:.1f} MB are needed)", std::strerror(fault),
                                    static_cast<double>(planned_) * 1e-6)),
                fault == EFBIG ? "raise the limit on file sizes (ulimit -f)"
                               : "free some space or write to another folder; an earlier file is unchanged");
    });
    reserved_ = wanted;
}

void OutputFile::ensure_group(const std::string& object) {
    if (object == "/") return;
    for (std::size_t end = object.find('/', 1);; end = object.find('/', end + 1)) {
        const std::string part = object.substr(0, end);
        if (H5Lexists(file_, part.c_str(), H5P_DEFAULT) <= 0) {
            const Hdf5Handle group(H5Gcreate2(file_, part.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
            require(static_cast<bool>(group), Exit::storage, problem(fmt::format("group {}: {}", part, hdf5_reason())),
                    faulty_storage);
        }
        if (end == std::string::npos) return;
    }
}

void OutputFile::attribute(const std::string& object, const std::string& name, const AttributeValue& value) {
    require(open_, Exit::internal, "attribute written to a file that is not open");
    Index bytes = object_overhead + attribute_overhead;
    if (const auto* text = std::get_if<std::string>(&value)) bytes += 2 * static_cast<Index>(text->size());
    reserve(bytes);
    agree([&] {
        ensure_group(object);
        write_attribute(object, name, value);
    });
    attributes_ += attribute_checksum(object, name, value);
}

void OutputFile::write_attribute(const std::string& object, const std::string& name, const AttributeValue& value) {
    const Hdf5Handle scalar = hdf5_space({});
    Hdf5Handle type;
    const void* data = nullptr;
    const char* text = nullptr;
    if (const auto* string = std::get_if<std::string>(&value)) {
        // Text of variable length is what h5py returns as a Python str.
        type = Hdf5Handle(H5Tcopy(H5T_C_S1), H5Tclose);
        H5Tset_size(type, H5T_VARIABLE);
        H5Tset_cset(type, H5T_CSET_UTF8);
        text = string->c_str();
        data = &text;
    } else if (const auto* number = std::get_if<double>(&value)) {
        type = Hdf5Handle(H5Tcopy(H5T_IEEE_F64LE), H5Tclose);
        data = number;
    } else {
        type = Hdf5Handle(H5Tcopy(H5T_STD_I64LE), H5Tclose);
        data = &std::get<std::int64_t>(value);
    }
    const Hdf5Handle attribute(
        H5Acreate_by_name(file_, object.c_str(), name.c_str(), type, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
        H5Aclose);
    require(attribute && H5Awrite(attribute, type, data) >= 0, Exit::storage,
            problem(fmt::format("attribute {} of {}: {}", name, object, hdf5_reason())), faulty_storage);
}

template <class T>
void OutputFile::dataset(const std::string& name, const std::vector<Index>& dims, const std::vector<Block<T>>& blocks) {
    require(open_, Exit::internal, "dataset written to a file that is not open");
    std::int64_t sums[2] = {0, 0};  // checksum, elements
    for (const Block<T>& block : blocks) {
        sums[0] += static_cast<std::int64_t>(block_checksum(dims, block));
        sums[1] += elements(block.count);
    }
    grid_.control().all_reduce_sum(sums, Scalar::int64, 2);
    const Index total = elements(dims);
    agree([&] {
        require(sums[1] == total, Exit::internal,
                fmt::format("the blocks of {} hold {} elements, the dataset {}", name, sums[1], total));
    });
    reserve(total * static_cast<Index>(sizeof(T)) + object_overhead);
    agree([&] {
        const Hdf5Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose), create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
        H5Pset_create_intermediate_group(links, 1);
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
        H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
        H5Pset_obj_track_times(create, false);
        const Hdf5Handle space = hdf5_space(dims);
        dataset_ =
            Hdf5Handle(H5Dcreate2(file_, name.c_str(), file_type<T>(), space, links, create, H5P_DEFAULT), H5Dclose);
        require(static_cast<bool>(dataset_), Exit::storage, problem(fmt::format("dataset {}: {}", name, hdf5_reason())),
                faulty_storage);
    });
    agree([&] {
        for (const Block<T>& block : blocks)
            require(write_block(dataset_, dims, block), Exit::storage,
                    problem(fmt::format("dataset {}: {}", name, hdf5_reason())), faulty_storage);
    });
    dataset_.reset();
    attribute(name, checksum_name, sums[0]);
}

template void OutputFile::dataset(const std::string&, const std::vector<Index>&, const std::vector<Block<float>>&);
template void OutputFile::dataset(const std::string&, const std::vector<Index>&, const std::vector<Block<double>>&);
template void OutputFile::dataset(const std::string&, const std::vector<Index>&,
                                  const std::vector<Block<std::int32_t>>&);
template void OutputFile::dataset(const std::string&, const std::vector<Index>&,
                                  const std::vector<Block<std::int64_t>>&);
template void OutputFile::dataset(const std::string&, const std::vector<Index>&,
                                  const std::vector<Block<std::uint8_t>>&);

void OutputFile::finish() {
    attribute("/", checksum_name, static_cast<std::int64_t>(attributes_));
    haddr_t end = 0;
    H5Fget_eoa(file_, &end);
    if (static_cast<Index>(end) > planned_) reserve(static_cast<Index>(end) - planned_);
    agree([&] {
        require(H5Fflush(file_, H5F_SCOPE_GLOBAL) >= 0, Exit::storage, problem("flushing failed: " + hdf5_reason()),
                faulty_storage);
    });
    agree([&] { require(file_.reset(), Exit::storage, problem("closing failed: " + hdf5_reason()), faulty_storage); });
    open_ = false;
    complete();
}

// Cuts off reserved space that was not used, seals the file, and gives it its name once it is on disk.
void OutputFile::complete() {
    const auto check = [&](bool done, const char* what) {
        require(done, Exit::storage, problem(fmt::format("{} failed: {}", what, std::strerror(errno))), faulty_storage);
    };
    std::uint64_t end = 0;
    agree([&] {
        if (!partial_) return;
        const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
        set_format(access);
        const Hdf5Handle file(H5Fopen(name_.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
        require(file && H5Fget_eoa(file, &end) >= 0, Exit::storage, problem("reading back failed: " + hdf5_reason()),
                faulty_storage);
        check(::ftruncate(partial_->descriptor(), static_cast<off_t>(end)) == 0, "ftruncate");
    });
    grid_.control().broadcast(&end, sizeof end, 0);
    const Index size = static_cast<Index>(end);
    std::int64_t sum = 0;
    agree([&] { sum = static_cast<std::int64_t>(bytes_checksum(name_, size, grid_.ranks(), grid_.rank())); });
    grid_.control().all_reduce_sum(&sum, Scalar::int64, 1);
    agree([&] {
        if (!partial_) return;
        check(write_seal(partial_->descriptor(), size, static_cast<std::uint64_t>(sum)), "write");
        partial_->commit();
    });
}

}  // namespace spikefloss
