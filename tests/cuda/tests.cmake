# Parts of cuda/ that tests of backend operations do not cover.
spikefloss_test(cuda/test_team_plan LINK spikefloss_core)
target_sources(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda/team_plan.cpp)
target_include_directories(test_team_plan PRIVATE ${PROJECT_SOURCE_DIR}/cuda)
