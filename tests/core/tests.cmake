spikefloss_test(core/test_error LINK spikefloss_core)
spikefloss_test(core/test_random LINK spikefloss_core)
spikefloss_test(core/test_view LINK spikefloss_core)
spikefloss_test(core/test_whole_file LINK spikefloss_core)
