# The CPU backend, src/backend/cpu_*.cpp, compiled once for each instruction set of SPIKEFLOSS_ARCH. The rest of the
# program is compiled for any processor.
#
# An inline function of a header is in many objects, and the linker keeps one of them for all. It must not keep one with
# instructions that the processor may lack. So the objects of a set are linked to one, in which every symbol is local
# except spikefloss_cpu_backend_<number>. With a single set, objects are linked as they are.
#
#   spikefloss_cpu_kernels_<number>    objects of set number 0, 1, ...
#   SPIKEFLOSS_CPU_OBJECTS             what the library spikefloss_backend has of them
#   spikefloss_cpu_internals           for tests: the functions of cpu_*.hpp, for a set that this machine has
file(GLOB _sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cpu_*.cpp)
set(_names ${SPIKEFLOSS_ARCH})
if(NOT _names)
  set(_names "${CMAKE_SYSTEM_PROCESSOR}")  # the compiler's default
endif()
list(LENGTH _names _count)
set(SPIKEFLOSS_CPU_OBJECTS)
set(_lines "")
set(_number 0)
set(_internals 0)
foreach(_name IN LISTS _names)
  set(_kernels spikefloss_cpu_kernels_${_number})
  set(_entry spikefloss_cpu_backend_${_number})
  string(APPEND _lines "SPIKEFLOSS_INSTRUCTION_SET(${_number}, \"${_name}\")\n")
  add_library(${_kernels} OBJECT ${_sources})
  target_include_directories(${_kernels} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${_kernels} PRIVATE spikefloss_neuron spikefloss::blas OpenMP::OpenMP_CXX)
  target_compile_definitions(${_kernels} PRIVATE SPIKEFLOSS_CPU_ENTRY=${_entry})
  if(SPIKEFLOSS_ARCH)
    target_compile_options(${_kernels} PRIVATE -march=${_name})
  endif()
  if(_count EQUAL 1)
    list(APPEND SPIKEFLOSS_CPU_OBJECTS $<TARGET_OBJECTS:${_kernels}>)
  else()
    # A unique symbol, which only GCC makes, cannot be made local.
    target_compile_options(${_kernels} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
    set(_object ${PROJECT_BINARY_DIR}/cpu_kernels_${_number}.o)
    add_custom_command(OUTPUT ${_object} DEPENDS ${_kernels} $<TARGET_OBJECTS:${_kernels}> COMMAND_EXPAND_LISTS VERBATIM
      COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${_object} $<TARGET_OBJECTS:${_kernels}>
      COMMAND ${CMAKE_OBJCOPY} --keep-global-symbol=${_entry} ${_object}
      COMMENT "Linking the CPU kernels for ${_name}")
    set_source_files_properties(${_object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    list(APPEND SPIKEFLOSS_CPU_OBJECTS ${_object})
  endif()
  if(_name STREQUAL "x86-64-v3" AND SPIKEFLOSS_BUILD_MACHINE_HAS_AVX2)
    set(_internals ${_number})
  endif()
  math(EXPR _number "${_number} + 1")
endforeach()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/instruction_sets.inc CONTENT "${_lines}")

add_library(spikefloss_cpu_internals STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:spikefloss_cpu_kernels_${_internals}>)
target_link_libraries(spikefloss_cpu_internals PUBLIC spikefloss_backend)
if(SPIKEFLOSS_ARCH)
  list(GET SPIKEFLOSS_ARCH ${_internals} _name)
  target_compile_options(spikefloss_cpu_internals PUBLIC -march=${_name})
endif()
