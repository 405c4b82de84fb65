spikefloss_test(lyapunov/test_qr RANKS 1 2 4 LINK spikefloss_lyapunov spikefloss_reference)
spikefloss_test(lyapunov/test_spectrum LINK spikefloss_run_network)
spikefloss_test(lyapunov/test_flossing LINK spikefloss_run_network)
spikefloss_test(lyapunov/test_flossing_grids RANKS 1 2 4 6 LINK spikefloss_run_network)
