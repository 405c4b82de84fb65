# cmake --install BUILD --prefix PREFIX: the library, its two headers and the package for find_package(spikefloss). Each
# archive has the objects of several folders of src/, so that there is one target to link. The installed library has the
# CPU backend, also in a build with CUDA.
#
#   spikefloss::spikefloss   networks from arrays, and passes over them
#   spikefloss::files        read_network and write_network. They are a component, because they need the HDF5 that is
#                            built for MPI, and a process may already have another HDF5.
set(_headers ${CMAKE_INSTALL_INCLUDEDIR}/spikefloss)
set(_package ${CMAKE_INSTALL_LIBDIR}/cmake/spikefloss)

# spikefloss_archive(target NAME name OF libraries... LINK public... PRIVATE_LINK private...)
function(spikefloss_archive target)
  cmake_parse_arguments(ARG "" "NAME" "OF;LINK;PRIVATE_LINK" ${ARGN})
  list(TRANSFORM ARG_OF REPLACE "(.+)" "$<TARGET_OBJECTS:spikefloss_\\1>" OUTPUT_VARIABLE objects)
  add_library(${target} STATIC ${objects})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX EXPORT_NAME ${ARG_NAME}
    ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/installed)
endfunction()

spikefloss_archive(spikefloss_installed NAME spikefloss
  OF core parallel tasks backend network lyapunov train api factory_cpu
  LINK fmt::fmt PRIVATE_LINK MPI::MPI_CXX OpenMP::OpenMP_CXX ZLIB::ZLIB spikefloss::blas)
spikefloss_archive(spikefloss_installed_files NAME files
  OF config io api_files
  LINK spikefloss_installed PRIVATE_LINK tomlplusplus::tomlplusplus spikefloss::hdf5)
target_sources(spikefloss_installed PRIVATE ${SPIKEFLOSS_CPU_OBJECTS})
add_dependencies(spikefloss_installed spikefloss_backend)  # which makes them
set_target_properties(spikefloss_installed PROPERTIES OUTPUT_NAME spikefloss)
set_target_properties(spikefloss_installed_files PROPERTIES OUTPUT_NAME spikefloss_files)

install(TARGETS spikefloss_installed EXPORT spikefloss ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS spikefloss_installed_files EXPORT spikefloss_files ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES src/api/spikefloss.hpp DESTINATION ${_headers})
install(FILES src/core/error.hpp DESTINATION ${_headers}/core)
install(EXPORT spikefloss NAMESPACE spikefloss:: FILE spikefloss-targets.cmake DESTINATION ${_package})
install(EXPORT spikefloss_files NAMESPACE spikefloss:: FILE spikefloss-files-targets.cmake DESTINATION ${_package})
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/installed/spikefloss-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/installed/spikefloss-config-version.cmake cmake/spikefloss-config.cmake
  cmake/FindOpenBLAS.cmake cmake/FindHDF5MPI.cmake cmake/Findtomlplusplus.cmake DESTINATION ${_package})
