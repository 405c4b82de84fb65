# The program as a user starts it. Most of the time goes into starting and ending processes, so two of these files may
# run at once on two cores, but not those that depend on when a signal arrives.
spikefloss_python_test(end_to_end/test_golden TIMEOUT 600 EMULATED)
spikefloss_python_test(end_to_end/test_bad_input TIMEOUT 600)
spikefloss_python_test(end_to_end/test_files TIMEOUT 120)
spikefloss_python_test(end_to_end/test_learning TIMEOUT 600 EMULATED LearningTest)
spikefloss_python_test(end_to_end/test_own_network TIMEOUT 600 EMULATED)
spikefloss_python_test(end_to_end/test_resume TIMEOUT 600
  PROCESSORS 2 EMULATED ResumeTest.test_signals_on_one_rank ResumeTest.test_signals_under_mpirun ResumeTest.test_another_grid)
spikefloss_python_test(end_to_end/test_kill TIMEOUT 600 PROCESSORS 2)
spikefloss_python_test(end_to_end/test_choices TIMEOUT 300)
spikefloss_python_test(end_to_end/test_report TIMEOUT 120)
spikefloss_python_test(end_to_end/test_live TIMEOUT 300)
spikefloss_python_test(end_to_end/test_page TIMEOUT 300 FULL)
spikefloss_python_test(end_to_end/test_tensorboard TIMEOUT 360 FULL)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND SPIKEFLOSS_ARCH STREQUAL "x86-64-v3" AND NOT SPIKEFLOSS_SANITIZE)
  spikefloss_python_test(end_to_end/test_processor TIMEOUT 120)
endif()
spikefloss_python_test(end_to_end/test_sweep TIMEOUT 600)
