spikefloss_test(backend/test_memory LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_memory_groups LINK spikefloss_backend)
spikefloss_test(backend/test_operations_sums LINK spikefloss_reference EMULATED)
spikefloss_test(backend/test_operations_sparse LINK spikefloss_network spikefloss_reference EMULATED EMULATED_FULL)
spikefloss_test(backend/test_operations_neuron LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_operations_readout LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_operations_tangent LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_operations_qr LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_operations_optimiser LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_state_passes LINK spikefloss_network spikefloss_reference EMULATED EMULATED_FULL)
spikefloss_test(backend/test_cpu_basis LINK spikefloss_cpu_internals spikefloss_backend spikefloss_reference spikefloss_factory)
spikefloss_test(backend/test_same_bits LINK spikefloss_network spikefloss_reference EMULATED EMULATED_FULL)
spikefloss_test(backend/test_operations_tangent_passes LINK spikefloss_lyapunov spikefloss_reference EMULATED)
spikefloss_test(backend/test_instruction_sets LINK spikefloss_lyapunov spikefloss_reference)
spikefloss_test(backend/test_adjoints LINK spikefloss_backend spikefloss_reference EMULATED)
spikefloss_test(backend/test_rounding LINK spikefloss_backend spikefloss_reference EMULATED EMULATED_FULL)
spikefloss_test(backend/test_precision LINK spikefloss_network spikefloss_reference EMULATED)
# Races of the fused kernels, with threads that stop at random accesses.
spikefloss_traced_test(test_state_passes backend/test_state_passes.cpp
  "spikefloss_network;spikefloss_reference" ENVIRONMENT SPIKEFLOSS_EMULATION_PREEMPT=97 SPIKEFLOSS_EMULATION_SEED=3)
spikefloss_traced_test(test_operations_tangent_passes backend/test_operations_tangent_passes.cpp
  "spikefloss_lyapunov;spikefloss_reference" FILTER "*float32*")
spikefloss_traced_test(test_operations_qr backend/test_operations_qr.cpp
  "spikefloss_backend;spikefloss_reference" FILTER "*FusedQr*")
# Enough for all blocks of a network of a thousand neurons to be resident together.
set_property(TEST test_state_passes_emulated APPEND PROPERTY ENVIRONMENT SPIKEFLOSS_EMULATION_MULTIPROCESSORS=40)
# The plans of other devices: capability and multiprocessors.
foreach(device 80_108 90_1 90_2 90_132 120_170)
  string(REPLACE "_" ";" limits ${device})
  list(GET limits 0 capability)
  list(GET limits 1 multiprocessors)
  set(entry test_state_passes_emulated_sm${device})
  spikefloss_test_entries(test_state_passes_emulated ENTRY ${entry} LABEL emulated FULL RANKS 1 TIMEOUT 300)
  set_property(TEST ${entry} APPEND PROPERTY ENVIRONMENT SPIKEFLOSS_TESTS=quick
    SPIKEFLOSS_EMULATION_CAPABILITY=${capability} SPIKEFLOSS_EMULATION_MULTIPROCESSORS=${multiprocessors})
endforeach()
