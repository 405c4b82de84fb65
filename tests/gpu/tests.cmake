# What tests/gpu/pack carries to a GPU machine beside the tests, and a rehearsal of that day without a GPU.
if(SPIKEFLOSS_WITH_CUDA)
  add_executable(gpu_probe gpu/probe.cu)
  target_compile_options(gpu_probe PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${SPIKEFLOSS_CUDA_FLAGS}>")
  target_link_libraries(gpu_probe PRIVATE CUDA::cublas CUDA::cudart_static)
endif()

add_executable(gpu_planted gpu/planted.cpp)
target_link_libraries(gpu_planted PRIVATE spikefloss_test_support)
add_test(NAME gpu_planted COMMAND gpu_planted)
set_tests_properties(gpu_planted PROPERTIES DISABLED TRUE LABELS "planted;full" ENVIRONMENT "SPIKEFLOSS_PLANTED=a value")

if(SPIKEFLOSS_BENCH AND NOT SPIKEFLOSS_SANITIZE)
  add_test(NAME gpu_rehearsal
    COMMAND ${SPIKEFLOSS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/test_rehearsal.py ${PROJECT_BINARY_DIR} -v)
  set_tests_properties(gpu_rehearsal PROPERTIES TIMEOUT 300 PROCESSORS 2 LABELS full)
endif()
