# The program as a user starts it. Most of the time goes into starting and ending processes, so two of these files may
# run at once on two cores, but not those that depend on when a signal comes.
spikefloss_python_test(end_to_end/test_golden TIMEOUT 600)
spikefloss_python_test(end_to_end/test_bad_input TIMEOUT 600)
spikefloss_python_test(end_to_end/test_learning TIMEOUT 600)
spikefloss_python_test(end_to_end/test_own_network TIMEOUT 600)
spikefloss_python_test(end_to_end/test_resume TIMEOUT 600)
spikefloss_python_test(end_to_end/test_kill TIMEOUT 600)
set_tests_properties(test_golden test_bad_input test_learning test_own_network PROPERTIES PROCESSORS 1)
spikefloss_python_test(end_to_end/test_choices TIMEOUT 300)
spikefloss_python_test(end_to_end/test_report TIMEOUT 120)
spikefloss_python_test(end_to_end/test_live TIMEOUT 300)
spikefloss_python_test(end_to_end/test_page TIMEOUT 300)
spikefloss_python_test(end_to_end/test_tensorboard TIMEOUT 360)
