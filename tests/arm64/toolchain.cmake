# Compiles for Arm (arm64) with Debian's cross compiler, against the packages that tests/arm64/root unpacked in
# SPIKEFLOSS_ARM64/root. Programs of this machine are used; those of the build run in qemu-aarch64.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SPIKEFLOSS_ARM64)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_SYSROOT ${SPIKEFLOSS_ARM64}/root)
set(CMAKE_FIND_ROOT_PATH ${CMAKE_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${CMAKE_SYSROOT})

set(libraries ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${libraries}/pkgconfig:${libraries}/openblas-pthread/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)
# The compiler wrappers of MPI compile for this machine, so they are not used.
set(MPI_CXX_SKIP_MPICXX ON)
set(MPI_ASSUME_NO_BUILTIN_MPI ON)
set(MPI_CXX_COMPILER NOTFOUND)
set(MPI_CXX_HEADER_DIR ${libraries}/openmpi/include)
set(MPI_CXX_LIB_NAMES mpi)
set(MPI_mpi_LIBRARY ${libraries}/openmpi/lib/libmpi.so)
# Libraries need further libraries. The linker looks for those here.
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${libraries}:${libraries}/openblas-pthread:${libraries}/openmpi/lib")
