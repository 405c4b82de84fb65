# The reference and the loader of golden cases, for the tests of all folders: link spikefloss_reference.
add_library(spikefloss_reference STATIC reference/model.cpp reference/surrogate.cpp reference/dynamics.cpp
  reference/loss.cpp reference/lyapunov.cpp reference/flossing.cpp reference/optimisers.cpp reference/examples.cpp
  support/golden.cpp)
# Only the folder of the tests: the reference must not see src/.
target_include_directories(spikefloss_reference PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(spikefloss_reference PUBLIC spikefloss::hdf5)

spikefloss_test(reference/test_reference_surrogates LINK spikefloss_reference)
spikefloss_test(reference/test_reference_golden LINK spikefloss_reference)
spikefloss_test(reference/test_reference_task LINK spikefloss_reference)
spikefloss_test(reference/test_reference_spectrum LINK spikefloss_reference)
spikefloss_test(reference/test_reference_flossing LINK spikefloss_reference)
spikefloss_test(reference/test_reference_optimisers LINK spikefloss_reference)
