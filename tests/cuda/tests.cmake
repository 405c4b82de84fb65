# Parts of cuda/ that tests of backend operations do not cover.
spikefloss_test(cuda/test_team_plan LINK spikefloss_core)
target_sources(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda/team_plan.cpp)
target_include_directories(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
spikefloss_test(cuda/test_cuda_backend LINK spikefloss_cuda_emulated spikefloss_cuda_emulation)
spikefloss_test(cuda/test_digits LINK spikefloss_cuda_emulated spikefloss_cuda_emulation
  spikefloss_backend spikefloss_reference)
spikefloss_test(cuda/test_step_calls LINK spikefloss_run_network_emulated spikefloss_cuda_emulated spikefloss_cuda_emulation
  spikefloss_factory_emulated)
set_tests_properties(test_step_calls PROPERTIES LABELS emulated)
spikefloss_test(cuda/test_predicted_times LINK spikefloss_cuda_emulated spikefloss_cuda_emulation spikefloss_factory_emulated)
set_tests_properties(test_predicted_times PROPERTIES LABELS emulated
  ENVIRONMENT "SPIKEFLOSS_EMULATION_CAPABILITY=90;SPIKEFLOSS_EMULATION_MULTIPROCESSORS=132")
foreach(test test_cuda_backend test_digits)
  target_include_directories(${test} PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
  set_tests_properties(${test} PROPERTIES LABELS emulated)
endforeach()
add_test(NAME test_register_table COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/registers.py
  --check ${CMAKE_CURRENT_SOURCE_DIR}/cuda_emulation/registers.txt)
add_test(NAME test_kernel_counts COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_kernel_counts.py)
if(SPIKEFLOSS_WITH_CUDA)
  add_test(NAME test_kernel_images COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/test_kernel_images.py
    $<TARGET_FILE:spikefloss> "${CMAKE_CUDA_ARCHITECTURES}")
endif()
