// The whole reference. In short:
//
//   Trajectory tr = forward(net, seq);             states, spikes, readout
//   Loss loss = task_loss(seq, tr.readout);        value, accuracy, dL/dy
//   Gradients d = backward(net, seq, tr, loss.gradient);
//   Spectrum s = spectrum(net, seq, tr, options);  exponents
//   Floss f = floss(net, seq, tr, options);        penalty and both of its gradients
#pragma once

#include "reference/dynamics.hpp"
#include "reference/examples.hpp"
#include "reference/flossing.hpp"
#include "reference/lyapunov.hpp"
#include "reference/model.hpp"
#include "reference/optimisers.hpp"
#include "reference/surrogate.hpp"
