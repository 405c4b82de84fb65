# What src/watching/ needs. SPIKEFLOSS_PAGE_PARTS: a source with the page of src/watching/ and the chart library, dygraphs, as texts. Without the
# library the build still works; what needs it then says so.
find_path(SPIKEFLOSS_DYGRAPHS dygraph.min.js PATHS /usr/share/javascript/dygraphs NO_CMAKE_FIND_ROOT_PATH
  DOC "Folder with dygraph.min.js and dygraph.min.css")
set(_page ${PROJECT_SOURCE_DIR}/src/watching)
set(_charts NONE NONE)
set(_chart_files)
if(SPIKEFLOSS_DYGRAPHS)
  set(_charts ${SPIKEFLOSS_DYGRAPHS}/dygraph.min.css ${SPIKEFLOSS_DYGRAPHS}/dygraph.min.js)
  set(_chart_files ${_charts})
else()
  message(STATUS "Charts of reports and live pages: off, dygraphs was not found (package libjs-dygraphs)")
endif()
set(_files ${_page}/page.html ${_page}/page.css ${_page}/page.js)
set(SPIKEFLOSS_PAGE_PARTS ${PROJECT_BINARY_DIR}/generated/page_parts.cpp)
add_custom_command(OUTPUT ${SPIKEFLOSS_PAGE_PARTS}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${SPIKEFLOSS_PAGE_PARTS} -DHEADER=watching/page_parts.hpp
    "-DNAMES=page_html;page_css;page_js;chart_css;chart_js" "-DFILES=${_files};${_charts}"
    -P ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake
  DEPENDS ${_files} ${_chart_files} ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake
  COMMENT "Embedding the page of reports" VERBATIM)

# spikefloss_serve(): lets src/watching/ serve over HTTP where the libraries for it are there, cpp-httplib and
# prometheus-cpp; otherwise who asks for it is told.
pkg_check_modules(HTTPLIB QUIET IMPORTED_TARGET cpp-httplib)
find_package(prometheus-cpp CONFIG QUIET COMPONENTS core)
function(spikefloss_serve)
  if(HTTPLIB_FOUND AND prometheus-cpp_FOUND)
    set(unused no_live_server)
    target_link_libraries(spikefloss_watching PRIVATE PkgConfig::HTTPLIB prometheus-cpp::core)
  else()
    set(unused live_server prometheus_text)
    message(STATUS "Live pages (serve.port): off, not found: cpp-httplib (${HTTPLIB_FOUND}), prometheus-cpp "
      "(${prometheus-cpp_FOUND}); packages libcpp-httplib-dev, prometheus-cpp-dev")
  endif()
  foreach(file ${unused})
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/watching/${file}.cpp PROPERTIES HEADER_FILE_ONLY TRUE)
  endforeach()
endfunction()
