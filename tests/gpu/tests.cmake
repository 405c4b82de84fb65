# What tests/gpu/pack carries to a GPU machine beside the tests.
if(SPIKEFLOSS_WITH_CUDA)
  add_executable(gpu_probe gpu/probe.cu)
  target_compile_options(gpu_probe PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${SPIKEFLOSS_CUDA_FLAGS}>")
  target_link_libraries(gpu_probe PRIVATE CUDA::cublas CUDA::cudart_static)
endif()
