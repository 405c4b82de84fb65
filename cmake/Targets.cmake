# spikefloss_library(folder LINK public... PRIVATE_LINK private...): the library of src/<folder>.
# A folder with headers only becomes an interface library.
set(SPIKEFLOSS_FLAGS -Wall -Wextra -Wpedantic -Wshadow -Wno-unknown-pragmas -Wno-psabi
    # Fused multiply-adds are written out (std::fma); the compiler must not add or remove any, so that
    # every grid and backend rounds alike.
    -ffp-contract=off -fno-math-errno -fno-trapping-math)
if(SPIKEFLOSS_WERROR)
  list(APPEND SPIKEFLOSS_FLAGS -Werror)
endif()
set(SPIKEFLOSS_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
if(SPIKEFLOSS_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${SPIKEFLOSS_SANITIZE_FLAGS}>")
  add_link_options(-fsanitize=address,undefined)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${SPIKEFLOSS_FLAGS}>")

# For tests that run nowhere else.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT CMAKE_CROSSCOMPILING)
  include(CheckCXXSourceRuns)
  check_cxx_source_runs("int main() { __builtin_cpu_init(); return !(__builtin_cpu_supports(\"avx2\") &&
    __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"bmi2\")); }" SPIKEFLOSS_BUILD_MACHINE_HAS_AVX2)
endif()

function(spikefloss_library name)
  cmake_parse_arguments(ARG "" "" "LINK;PRIVATE_LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/src/backend/factory.cpp$")  # a separate library: spikefloss_factory_library
  list(FILTER sources EXCLUDE REGEX "/src/backend/cpu_")          # CpuKernels.cmake
  list(FILTER sources EXCLUDE REGEX "/src/api/files.cpp$")        # spikefloss_api_files
  if(sources)
    add_library(spikefloss_${name} STATIC ${sources})
    target_include_directories(spikefloss_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_BINARY_DIR}/generated)
    target_include_directories(spikefloss_${name} SYSTEM PUBLIC ${RANDOM123_INCLUDE})
    target_link_libraries(spikefloss_${name} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  else()
    add_library(spikefloss_${name} INTERFACE)
    target_include_directories(spikefloss_${name} INTERFACE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(spikefloss_${name} INTERFACE ${ARG_LINK} ${ARG_PRIVATE_LINK})
  endif()
endfunction()

# spikefloss_factory_library(target [CUDA library] [PREFER_CUDA]): the library that makes backends. Only it knows which
# backends exist: the CPU's, and the CUDA backend of `library`. PREFER_CUDA: "auto" chooses CUDA if there is a GPU.
# Libraries link no factory; every executable chooses one.
function(spikefloss_factory_library target)
  cmake_parse_arguments(ARG "PREFER_CUDA" "CUDA" "" ${ARGN})
  add_library(${target} STATIC ${PROJECT_SOURCE_DIR}/src/backend/factory.cpp)
  target_link_libraries(${target} PUBLIC spikefloss_backend PRIVATE ${ARG_CUDA})
  target_compile_definitions(${target} PRIVATE
    SPIKEFLOSS_WITH_CUDA=$<BOOL:${ARG_CUDA}> SPIKEFLOSS_PREFER_CUDA=$<BOOL:${ARG_PREFER_CUDA}>)
  if(ARG_CUDA)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
  endif()
endfunction()
