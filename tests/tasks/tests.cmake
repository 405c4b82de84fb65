spikefloss_test(tasks/test_generated_tasks LINK spikefloss_tasks)
spikefloss_test(tasks/test_permutation LINK spikefloss_tasks)
spikefloss_test(tasks/test_images LINK spikefloss_tasks ZLIB::ZLIB)
