spikefloss_python_test(cluster/test_slurm TIMEOUT 900 LABEL cluster)
spikefloss_python_test(cluster/test_slurm_nodes TIMEOUT 600 LABEL cluster)
spikefloss_python_test(cluster/test_slurm_sweep TIMEOUT 600 LABEL cluster)
set_tests_properties(test_slurm test_slurm_nodes test_slurm_sweep PROPERTIES RESOURCE_LOCK slurm)
