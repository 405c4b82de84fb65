# The program in the hands of launchers and clusters, and what these do to it. Signals and kills come while it runs, so
# each file has the machine's cores to itself.
spikefloss_python_test(cluster/test_mpirun TIMEOUT 900 LABEL cluster
  EMULATED LostRankTest.test_killed LostRankTest.test_stopped_rank_is_named)
spikefloss_python_test(cluster/test_storage TIMEOUT 600 LABEL cluster)
spikefloss_python_test(cluster/test_clock TIMEOUT 300 LABEL cluster)
spikefloss_python_test(cluster/test_hosts TIMEOUT 900 LABEL cluster)
spikefloss_python_test(cluster/test_docker_run TIMEOUT 120 LABEL cluster)
spikefloss_python_test(cluster/test_slurm TIMEOUT 900 LABEL cluster)
spikefloss_python_test(cluster/test_slurm_nodes TIMEOUT 600 LABEL cluster)
spikefloss_python_test(cluster/test_slurm_sweep TIMEOUT 600 LABEL cluster)
set_tests_properties(test_slurm test_slurm_nodes test_slurm_sweep PROPERTIES RESOURCE_LOCK slurm)
