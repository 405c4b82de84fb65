# Builds both container images and runs programs in them. It takes about an hour, root, the network and some 15 GB, so
# it is registered only on request. `tests/container/run` does the same by hand.
option(SPIKEFLOSS_CONTAINER_TEST "Add the test that builds the container images" OFF)
if(SPIKEFLOSS_CONTAINER_TEST)
  add_test(NAME container COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/container/run)
  set_tests_properties(container PROPERTIES LABELS container TIMEOUT 14400 RUN_SERIAL TRUE SKIP_RETURN_CODE 77)
endif()
