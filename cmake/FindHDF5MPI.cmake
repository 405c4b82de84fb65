# spikefloss::hdf5: the parallel build of HDF5 for Open MPI. Debian and Ubuntu have it beside the serial one. Elsewhere, as
# in the modules of a cluster, CMake checks that it is parallel. It needs MPI::MPI_CXX. The installed package has this
# file, too.
find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_search_module(HDF5 QUIET IMPORTED_TARGET hdf5-openmpi)
endif()
set(HDF5MPI_LIBRARIES PkgConfig::HDF5)
if(NOT TARGET PkgConfig::HDF5)
  enable_language(C)  # CMake tries HDF5 in C
  set(HDF5_PREFER_PARALLEL ON)
  find_package(HDF5 QUIET COMPONENTS C)
  set(HDF5MPI_LIBRARIES)
  if(HDF5_IS_PARALLEL)
    set(HDF5MPI_LIBRARIES ${HDF5_LIBRARIES})
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HDF5MPI REQUIRED_VARS HDF5MPI_LIBRARIES
  REASON_FAILURE_MESSAGE "install HDF5 built for MPI (package libhdf5-openmpi-dev), or set HDF5_ROOT to one that is")
if(HDF5MPI_FOUND AND NOT TARGET spikefloss::hdf5)
  add_library(spikefloss::hdf5 INTERFACE IMPORTED)
  target_link_libraries(spikefloss::hdf5 INTERFACE ${HDF5MPI_LIBRARIES} MPI::MPI_CXX)
  if(NOT TARGET PkgConfig::HDF5)
    target_include_directories(spikefloss::hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
  endif()
endif()
