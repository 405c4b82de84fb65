# The libraries that spikefloss needs, all from the distribution. launch/packages lists them by package name.
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(OpenBLAS REQUIRED)
find_package(HDF5MPI REQUIRED)

find_path(RANDOM123_INCLUDE Random123/philox.h)
if(NOT RANDOM123_INCLUDE)
  message(FATAL_ERROR "Random123/philox.h not found; run launch/install_packages, or install the packages listed in "
    "launch/packages")
endif()
