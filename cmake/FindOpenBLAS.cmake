# spikefloss::blas: CBLAS and LAPACK of OpenBLAS, and LAPACKE, the C interface of LAPACK, which some builds of OpenBLAS
# include. The installed package has this file, too.
find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(OPENBLAS QUIET IMPORTED_TARGET openblas)
endif()
find_library(LAPACKE_LIBRARY NAMES lapacke openblas HINTS ${OPENBLAS_LIBRARY_DIRS})
find_path(LAPACKE_INCLUDE lapacke.h HINTS ${OPENBLAS_INCLUDE_DIRS})
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OPENBLAS_FOUND LAPACKE_LIBRARY LAPACKE_INCLUDE
  VERSION_VAR OPENBLAS_VERSION
  REASON_FAILURE_MESSAGE "install OpenBLAS, LAPACKE and pkg-config (packages libopenblas-dev, liblapacke-dev and pkg-config)")
if(OpenBLAS_FOUND AND NOT TARGET spikefloss::blas)
  add_library(spikefloss::blas INTERFACE IMPORTED)
  target_include_directories(spikefloss::blas SYSTEM INTERFACE ${LAPACKE_INCLUDE})
  target_link_libraries(spikefloss::blas INTERFACE ${LAPACKE_LIBRARY} PkgConfig::OPENBLAS)
endif()
