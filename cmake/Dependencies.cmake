# The libraries that spikefloss needs, all from the distribution. launch/packages lists them by package name.
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

# OpenBLAS has CBLAS and LAPACK. LAPACKE has the C interface of LAPACK (some builds of OpenBLAS include it).
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
find_library(LAPACKE_LIBRARY NAMES lapacke openblas HINTS ${OPENBLAS_LIBRARY_DIRS} REQUIRED)
find_path(LAPACKE_INCLUDE lapacke.h HINTS ${OPENBLAS_INCLUDE_DIRS} REQUIRED)
add_library(spikefloss_blas INTERFACE)
add_library(spikefloss::blas ALIAS spikefloss_blas)
target_include_directories(spikefloss_blas SYSTEM INTERFACE ${LAPACKE_INCLUDE})
target_link_libraries(spikefloss_blas INTERFACE ${LAPACKE_LIBRARY} PkgConfig::OPENBLAS)

# HDF5 must be the parallel build for Open MPI. Debian and Ubuntu have it beside the serial one. Elsewhere, as in the
# modules of a cluster, CMake checks that it is parallel.
add_library(spikefloss_hdf5 INTERFACE)
add_library(spikefloss::hdf5 ALIAS spikefloss_hdf5)
pkg_search_module(HDF5 IMPORTED_TARGET hdf5-openmpi)
if(TARGET PkgConfig::HDF5)
  target_link_libraries(spikefloss_hdf5 INTERFACE PkgConfig::HDF5 MPI::MPI_CXX)
else()
  enable_language(C)  # CMake tries HDF5 in C
  set(HDF5_PREFER_PARALLEL ON)
  find_package(HDF5 REQUIRED COMPONENTS C)
  if(NOT HDF5_IS_PARALLEL)
    message(FATAL_ERROR "the HDF5 of ${HDF5_INCLUDE_DIRS} is not built for MPI; ${_hint}, or set HDF5_ROOT to one that is")
  endif()
  target_include_directories(spikefloss_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
  target_link_libraries(spikefloss_hdf5 INTERFACE ${HDF5_LIBRARIES} MPI::MPI_CXX)
endif()
