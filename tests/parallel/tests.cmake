spikefloss_test(parallel/test_block_range LINK spikefloss_parallel)
spikefloss_test(parallel/test_parse_grid LINK spikefloss_parallel)
spikefloss_test(parallel/test_communicators RANKS 1 2 4 6 LINK spikefloss_parallel)
spikefloss_test(parallel/test_process_grid RANKS 1 2 4 6 LINK spikefloss_parallel)
