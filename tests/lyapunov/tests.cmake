spikefloss_test(lyapunov/test_qr RANKS 1 2 4 LINK spikefloss_lyapunov spikefloss_reference spikefloss_factory)
spikefloss_test(lyapunov/test_qr_schedule LINK spikefloss_lyapunov)
spikefloss_test(lyapunov/test_spectrum LINK spikefloss_run_network EMULATED)
spikefloss_test(lyapunov/test_flossing TIMEOUT 600 LINK spikefloss_run_network EMULATED EMULATED_FULL)
spikefloss_test(lyapunov/test_flossing_grids RANKS 1 2 4 6 LINK spikefloss_run_network)
# Several ranks need communicators for device memory; one does not.
spikefloss_emulated_test(test_qr lyapunov/test_qr.cpp "spikefloss_lyapunov;spikefloss_reference" RANKS 1 TIMEOUT 600)
spikefloss_emulated_test(test_flossing_grids lyapunov/test_flossing_grids.cpp spikefloss_run_network RANKS 1 TIMEOUT 600)
