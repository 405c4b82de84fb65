# The passes run on a reference::Network, for the tests of network, lyapunov and train.
add_library(spikefloss_run_network STATIC support/run_network.cpp)
target_link_libraries(spikefloss_run_network PUBLIC spikefloss_test_support spikefloss_reference spikefloss_train)
# The same for emulated twins, on the CUDA backend. spikefloss_emulated_test links it instead of the other one.
add_library(spikefloss_run_network_emulated STATIC EXCLUDE_FROM_ALL support/run_network.cpp)
target_link_libraries(spikefloss_run_network_emulated PUBLIC spikefloss_test_support spikefloss_reference spikefloss_train)
target_compile_definitions(spikefloss_run_network_emulated PRIVATE SPIKEFLOSS_TEST_EMULATED)

spikefloss_test(network/test_parameters RANKS 1 4 LINK spikefloss_run_network)
spikefloss_test(network/test_initialise LINK spikefloss_run_network)
spikefloss_test(network/test_initial_populations LINK spikefloss_network)
spikefloss_test(network/test_recurrence RANKS 1 2 4 6 LINK spikefloss_run_network)
spikefloss_test(network/test_spike_tape RANKS 1 2 4 6 LINK spikefloss_run_network)
spikefloss_test(network/test_state_pass LINK spikefloss_run_network)
spikefloss_test(network/test_state_pass_grids RANKS 1 2 4 6 LINK spikefloss_run_network)
spikefloss_test(network/test_state_pass_segments RANKS 1 2 4 6 LINK spikefloss_run_network)
