# The program in the hands of launchers and clusters, and what these do to it. Signals and kills come while it runs, so
# each file has the machine's cores to itself.
spikefloss_python_test(cluster/test_mpirun TIMEOUT 900 LABEL cluster)
spikefloss_python_test(cluster/test_storage TIMEOUT 600 LABEL cluster)
spikefloss_python_test(cluster/test_clock TIMEOUT 300 LABEL cluster)
spikefloss_python_test(cluster/test_hosts TIMEOUT 900 LABEL cluster)
spikefloss_python_test(cluster/test_docker_run TIMEOUT 120 LABEL cluster)
