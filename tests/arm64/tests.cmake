# The program and its kernels on Arm, in an emulator.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT SPIKEFLOSS_SANITIZE)
  spikefloss_python_test(arm64/test_arm64 TIMEOUT 2400 PROCESSORS 2 FULL)
  set_property(TEST test_arm64 APPEND PROPERTY ENVIRONMENT SPIKEFLOSS_BUILD=${PROJECT_BINARY_DIR})
endif()
