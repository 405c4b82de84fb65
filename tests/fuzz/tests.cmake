# Fuzzing: a minute of mutated inputs for everything that reads what others write. By hand, for longer:
#   build/cpu-release/tests/fuzz_config configs tests/fuzz/seeds/config --seconds 600
# With Clang as the compiler the targets are libFuzzer's, which is guided by coverage: fuzz_config CORPUS tests/fuzz/seeds/config
#
# spikefloss_fuzz(name [RANDOM n] LINK libs... SEEDS files and folders...). RANDOM: the same mutations at every run, where a
# finding may be a fault of a library and not of a change.
function(spikefloss_fuzz name)
  cmake_parse_arguments(ARG "" "RANDOM" "LINK;SEEDS" ${ARGN})
  if(ARG_RANDOM)
    list(APPEND ARG_SEEDS --random ${ARG_RANDOM})
  endif()
  add_executable(fuzz_${name} fuzz/fuzz_${name}.cpp)
  target_include_directories(fuzz_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(fuzz_${name} PRIVATE SPIKEFLOSS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LINK})
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    return()
  endif()
  target_sources(fuzz_${name} PRIVATE fuzz/driver.cpp)
  add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${ARG_SEEDS} --seconds 60)
  set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 180 LABELS "fuzz;full")
endfunction()

set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds)
file(GLOB configs ${PROJECT_SOURCE_DIR}/configs/*.toml)
file(GLOB sweeps ${PROJECT_SOURCE_DIR}/configs/sweeps/*.toml)
spikefloss_fuzz(config LINK spikefloss_config SEEDS ${seeds}/config ${configs})
spikefloss_fuzz(set LINK spikefloss_config SEEDS ${seeds}/set)
spikefloss_fuzz(sweep LINK spikefloss_config SEEDS ${seeds}/sweep ${sweeps})
spikefloss_fuzz(idx LINK spikefloss_tasks SEEDS ${seeds}/idx)
spikefloss_fuzz(records LINK spikefloss_watching SEEDS ${seeds}/records)
spikefloss_fuzz(http LINK spikefloss_watching SEEDS ${seeds}/http)
spikefloss_fuzz(network RANDOM 1 LINK spikefloss_io SEEDS ${seeds}/network)
spikefloss_fuzz(checkpoint LINK spikefloss_io SEEDS ${seeds}/checkpoint)
spikefloss_fuzz(sequences RANDOM 1 LINK spikefloss_sequences SEEDS ${seeds}/sequences)
