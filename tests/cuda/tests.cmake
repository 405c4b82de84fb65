# Parts of cuda/ that no test of backend operations shows.
spikefloss_test(cuda/test_team_plan LINK spikefloss_core)
target_sources(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda/team_plan.cpp)
target_include_directories(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
