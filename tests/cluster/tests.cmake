# The program under launchers and on clusters, with their signals and failures. All but test_mpirun mostly wait: for real
# clocks (time limits, grace times), watchdogs or timeouts of the network. They count as one job, so that another test
# runs beside them; those of Slurm take longest and start first.
spikefloss_python_test(cluster/test_mpirun TIMEOUT 900 LABEL cluster PROCESSORS 2
  EMULATED LostRankTest.test_killed LostRankTest.test_stopped_rank_is_named EMULATED_FULL)
spikefloss_python_test(cluster/test_storage TIMEOUT 600 LABEL cluster FULL)
spikefloss_python_test(cluster/test_clock TIMEOUT 300 LABEL cluster FULL)
spikefloss_python_test(cluster/test_hosts TIMEOUT 900 LABEL cluster FULL)
spikefloss_python_test(cluster/test_docker_run TIMEOUT 120 LABEL cluster)
spikefloss_python_test(cluster/test_slurm TIMEOUT 900 LABEL cluster FULL)
spikefloss_python_test(cluster/test_slurm_nodes TIMEOUT 600 LABEL cluster FULL)
spikefloss_python_test(cluster/test_slurm_sweep TIMEOUT 600 LABEL cluster FULL)
set_tests_properties(test_slurm test_slurm_nodes test_slurm_sweep PROPERTIES RESOURCE_LOCK slurm COST 1000)
