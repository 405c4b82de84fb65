# The needs of src/watching/. SPIKEFLOSS_PAGE_PARTS: a source with the page of src/watching/ and the chart library,
# dygraphs, as texts. Without the library the build works, and the commands with charts say that it is missing.
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

# spikefloss_prometheus(): /metrics of src/watching/, if prometheus-cpp is found.
find_package(prometheus-cpp CONFIG QUIET COMPONENTS core)
function(spikefloss_prometheus)
  if(prometheus-cpp_FOUND)
    set(unused no_prometheus_text)
    target_link_libraries(spikefloss_watching PRIVATE prometheus-cpp::core)
  else()
    set(unused prometheus_text)
    message(STATUS "/metrics of the live page: off, prometheus-cpp was not found (package prometheus-cpp-dev)")
  endif()
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/watching/${unused}.cpp PROPERTIES HEADER_FILE_ONLY TRUE)
endfunction()
