# The archives of a build with sanitizers need its flags.
if(NOT SPIKEFLOSS_SANITIZE)
  spikefloss_python_test(install/test_installed_library TIMEOUT 300)
  set_tests_properties(test_install test_installed_library PROPERTIES RESOURCE_LOCK installed)
endif()
