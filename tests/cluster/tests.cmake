spikefloss_python_test(cluster/test_slurm TIMEOUT 600 LABEL cluster)
set_tests_properties(test_slurm PROPERTIES RESOURCE_LOCK slurm)
spikefloss_python_test(cluster/test_slurm_sweep TIMEOUT 600 LABEL cluster)
set_tests_properties(test_slurm_sweep PROPERTIES RESOURCE_LOCK slurm)
