# The CUDA backend on an emulated device (tests/cuda_emulation), for tests on machines without a GPU. The host compiler
# compiles all of cuda/. It needs nothing of the CUDA toolkit.
#
#   spikefloss_factory_emulated   the factory with that backend
#   spikefloss_emulated           the program with that backend
#   spikefloss_emulated_test(name source "libs" entries...)   a test's twin <name>_emulated
#   spikefloss_traced_test(name source "libs" FILTER cases [ENVIRONMENT ...])   a test's twin <name>_traced, whose kernels
#                                run under the race detector (tests/cuda_emulation/races.hpp)
set(_emulation ${PROJECT_SOURCE_DIR}/tests/cuda_emulation)
add_subdirectory(${_emulation} ${PROJECT_BINARY_DIR}/tests/cuda_emulation)

file(GLOB _sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cu ${PROJECT_SOURCE_DIR}/cuda/*.cpp)
set_source_files_properties(${_sources} PROPERTIES LANGUAGE CXX)
add_library(spikefloss_cuda_emulated STATIC ${_sources})
target_include_directories(spikefloss_cuda_emulated PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
target_link_libraries(spikefloss_cuda_emulated
  PUBLIC spikefloss_backend spikefloss_parallel PRIVATE spikefloss_cuda_emulation)
spikefloss_factory_library(spikefloss_factory_emulated CUDA spikefloss_cuda_emulated)

# The same with kernels that report every access to memory.
add_library(spikefloss_emulated_races STATIC ${_emulation}/races.cpp)
target_compile_definitions(spikefloss_emulated_races PRIVATE SPIKEFLOSS_TRACED)
target_link_libraries(spikefloss_emulated_races PUBLIC spikefloss_cuda_emulation)
set(_kernels ${_sources})
list(FILTER _kernels INCLUDE REGEX "[.]cu$")
set(_host ${_sources})
list(FILTER _host EXCLUDE REGEX "[.]cu$")
add_library(spikefloss_cuda_traced STATIC EXCLUDE_FROM_ALL ${_host} $<TARGET_OBJECTS:spikefloss_traced_kernels>)
add_library(spikefloss_traced_kernels OBJECT EXCLUDE_FROM_ALL ${_kernels})
target_compile_options(spikefloss_traced_kernels PRIVATE -fsanitize=thread)
foreach(library spikefloss_cuda_traced spikefloss_traced_kernels)
  target_compile_definitions(${library} PRIVATE SPIKEFLOSS_TRACED)
  target_include_directories(${library} PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
  target_link_libraries(${library} PUBLIC spikefloss_backend spikefloss_parallel
    PRIVATE spikefloss_emulated_races spikefloss_cuda_emulation)
endforeach()
spikefloss_factory_library(spikefloss_factory_traced CUDA spikefloss_cuda_traced)

add_executable(spikefloss_emulated ${PROJECT_SOURCE_DIR}/src/main.cpp)
target_link_libraries(spikefloss_emulated PRIVATE spikefloss_blas_start spikefloss_commands spikefloss_factory_emulated)

function(spikefloss_emulated_test name source libraries)
  list(TRANSFORM libraries REPLACE "^spikefloss_run_network$" "spikefloss_run_network_emulated")
  add_executable(${name}_emulated ${source})
  target_link_libraries(${name}_emulated PRIVATE spikefloss_blas_start spikefloss_test_support ${libraries} spikefloss_factory_emulated)
  target_compile_definitions(${name}_emulated PRIVATE SPIKEFLOSS_TEST_EMULATED)
  spikefloss_test_entries(${name}_emulated ENTRY ${name}_emulated LABEL emulated ${ARGN})
endfunction()

function(spikefloss_traced_test name source libraries)
  cmake_parse_arguments(ARG "" "FILTER" "ENVIRONMENT" ${ARGN})
  add_executable(${name}_traced ${source})
  target_link_libraries(${name}_traced PRIVATE spikefloss_blas_start spikefloss_test_support ${libraries} spikefloss_factory_traced)
  target_compile_definitions(${name}_traced PRIVATE SPIKEFLOSS_TEST_EMULATED)
  spikefloss_test_entries(${name}_traced ENTRY ${name}_traced LABEL emulated FULL RANKS 1 TIMEOUT 900 FILTER "${ARG_FILTER}")
  set_property(TEST ${name}_traced APPEND PROPERTY ENVIRONMENT SPIKEFLOSS_TESTS=quick ${ARG_ENVIRONMENT})
endfunction()
