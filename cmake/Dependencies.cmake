# The libraries spikefloss stands on, all from the distribution. launch/packages lists them by package name.
set(_hint "run launch/install_packages, or install the packages listed in launch/packages")

find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus QUIET)
if(NOT TARGET tomlplusplus::tomlplusplus)
  pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET GLOBAL tomlplusplus)
  add_library(tomlplusplus::tomlplusplus ALIAS PkgConfig::tomlplusplus)
endif()

find_path(RANDOM123_INCLUDE Random123/philox.h)
if(NOT RANDOM123_INCLUDE)
  message(FATAL_ERROR "Random123/philox.h not found; ${_hint}")
endif()

# OpenBLAS serves CBLAS and LAPACK, LAPACKE the C interface of the latter.
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
find_library(LAPACKE_LIBRARY lapacke REQUIRED)
find_path(LAPACKE_INCLUDE lapacke.h REQUIRED)
add_library(spikefloss_blas INTERFACE)
add_library(spikefloss::blas ALIAS spikefloss_blas)
target_include_directories(spikefloss_blas SYSTEM INTERFACE ${LAPACKE_INCLUDE})
target_link_libraries(spikefloss_blas INTERFACE ${LAPACKE_LIBRARY} PkgConfig::OPENBLAS)

# HDF5 must be the parallel build for Open MPI (it lives beside the serial one in Debian and Ubuntu).
pkg_search_module(HDF5 REQUIRED IMPORTED_TARGET hdf5-openmpi)
add_library(spikefloss_hdf5 INTERFACE)
add_library(spikefloss::hdf5 ALIAS spikefloss_hdf5)
target_link_libraries(spikefloss_hdf5 INTERFACE PkgConfig::HDF5 MPI::MPI_CXX)
