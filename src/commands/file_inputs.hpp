// What `spectrum`, `gradients` and `eval --network` read: a network and sequences from files.
#pragma once

#include "commands/session.hpp"
#include "io/network_file.hpp"
#include "io/nir_network.hpp"
#include "network/state_pass.hpp"

namespace spikefloss {

// As read by one rank.
struct Inputs {
    Network network;
    SequencesFile sequences;
    BlockRange mine;     // the sequences of this rank
    NirOrigin origin;    // of the network
    Index appended = 0;  // empty steps, see append_steps
};

Inputs read_inputs(const FileCommand& command, const Session& session);

// A network that was a NIR graph answers `delay` steps late. So the sequences get as many empty steps more, and the
// targets and the mask move by as many. Not if the mask is 0 in the first `delay` steps of all sequences: then this was
// done in the file. --pad sets the number. Collective.
void append_steps(Inputs& in, const FileCommand& command, const ProcessGrid& grid);

// Error(Exit::usage) unless --output may be written. kind: "a spectrum as spikefloss writes it", with this attribute
// format of "/". Collective.
void require_output(const ProcessGrid& everyone, const FileCommand& command, const char* format, const char* kind);

}  // namespace spikefloss
