# Checks of the source itself: includes point one way, names in docs are right, every header of src/ compiles alone.
add_test(NAME check_includes
  COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/support/check_includes.py ${PROJECT_SOURCE_DIR}/src)
set_tests_properties(check_includes PROPERTIES TIMEOUT 60)

# Names, paths, config keys, links and line lengths of README.md, CONTRIBUTING.md and docs/.
add_test(NAME check_names
  COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/support/check_names.py ${PROJECT_SOURCE_DIR})
set_tests_properties(check_names PROPERTIES TIMEOUT 60)

# One source per header. Compiling them is the check, part of the build. Optimisation would only take time.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/src/*.hpp)
set(header_sources)
foreach(header ${headers})
  string(REGEX REPLACE "[/.]" "_" name ${header})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/headers/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"${header}\"\n")
  list(APPEND header_sources ${source})
endforeach()
add_library(headers_compile_alone OBJECT ${header_sources})
target_link_libraries(headers_compile_alone PRIVATE spikefloss_commands)
target_compile_options(headers_compile_alone PRIVATE -O0)
