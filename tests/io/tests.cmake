spikefloss_test(io/test_hdf5_file RANKS 1 2 4 6 LINK spikefloss_io)
spikefloss_test(io/test_bad_files RANKS 1 2 LINK spikefloss_io)
spikefloss_test(io/test_network_file RANKS 1 2 4 6 LINK spikefloss_io)
spikefloss_test(io/test_checkpoint RANKS 1 2 4 6 LINK spikefloss_io)
