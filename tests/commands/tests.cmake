spikefloss_test(commands/test_session LINK spikefloss_commands spikefloss_factory)
spikefloss_test(commands/test_plan RANKS 1 2 4 6 LINK spikefloss_commands spikefloss_factory)
