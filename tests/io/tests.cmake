spikefloss_test(io/test_hdf5_file RANKS 1 2 4 6 LINK spikefloss_io)
