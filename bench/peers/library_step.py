"""The training steps of bench/compare in spiking network libraries, written as their users write them: one product for
the inputs of all steps if the library allows it, the recurrent neuron of the library in a loop over time, the readout
as one product, loss sum(dy y), backward(). Each function takes a Case and returns (step, note): `step()` does one
training step; `note` lists the differences between its equations and ours."""
import torch


def data_of(case):
    return ({name: torch.from_numpy(value) for name, value in case.parameters().items()},
            torch.from_numpy(case.x()), torch.from_numpy(case.dy()))


def training_step(modules, membranes, w_out, dy):
    """The training step with `membranes()`, which returns u of all steps [T, B, N]."""
    parameters = [p for module in modules for p in module.parameters()] + [w_out]

    def step():
        for p in parameters:
            p.grad = None
        (dy * (membranes() @ w_out.t())).sum().backward()

    return step


def linear(weight, bias=None):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def snntorch(case):
    import snntorch
    from snntorch import surrogate

    p, x, dy = data_of(case)
    common = dict(all_to_all=True, linear_features=case.N, threshold=case.threshold,
                  spike_grad=surrogate.fast_sigmoid(slope=case.sharpness))
    if case.binary():
        neuron = snntorch.RLeaky(beta=0.0, reset_mechanism="none", **common)
    else:
        neuron = snntorch.RSynaptic(alpha=case.alpha, beta=case.beta, reset_mechanism="zero", **common)
    # Its membrane adds the whole current; ours adds (1 - beta) of it, so the weights have that factor.
    neuron.recurrent = linear((1.0 - case.beta) * p["w_rec"])
    inputs = linear((1.0 - case.beta) * p["w_in"], (1.0 - case.beta) * p["bias"])
    w_out = p["w_out"].requires_grad_(True)
    zeros = torch.zeros(case.B, case.N)

    def membranes():
        current, us = inputs(x), []
        state = (zeros, zeros) if case.binary() else (zeros, zeros, zeros)
        for t in range(case.T):
            state = neuron(current[t], *state)
            us.append(state[-1])
        return torch.stack(us)

    return training_step([inputs, neuron], membranes, w_out, dy), "the same equations"


def norse(case):
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.module.lif import LIFRecurrentCell

    p, x, dy = data_of(case)
    parameters = LIFParameters(tau_syn_inv=torch.tensor(1.0 - case.alpha), tau_mem_inv=torch.tensor(1.0 - case.beta),
                               v_th=torch.tensor(case.threshold), method="super", alpha=torch.tensor(case.sharpness))
    cell = LIFRecurrentCell(case.M, case.N, p=parameters, dt=1.0, autapses=True)
    with torch.no_grad():
        cell.input_weights.copy_(p["w_in"])
        cell.recurrent_weights.copy_(p["w_rec"])
    w_out = p["w_out"].requires_grad_(True)
    bias = p["bias"].requires_grad_(True)

    def membranes():
        state, us = None, []
        for t in range(case.T):
            _, state = cell(x[t], state)
            # It has no bias, so the bias is added to the current of the state.
            state = state._replace(i=state.i + bias)
            us.append(state.v)
        return torch.stack(us)

    return training_step([cell], membranes, w_out, dy), "explicit Euler: currents act a step later; reset in the same step, not detached"


def spikingjelly(case):
    from spikingjelly.activation_based import functional, neuron, surrogate

    p, x, dy = data_of(case)
    # tau = 1 / (1 - beta); it must be above 1.
    cell = neuron.LIFNode(tau=max(1.0 / (1.0 - case.beta), 1.0 + 1e-6), decay_input=True, v_threshold=case.threshold, v_reset=0.0,
                          surrogate_function=surrogate.SoftSign(alpha=case.sharpness), detach_reset=True, step_mode="s")
    inputs, recurrent = linear(p["w_in"], p["bias"]), linear(p["w_rec"])
    w_out = p["w_out"].requires_grad_(True)

    def membranes():
        functional.reset_net(cell)
        current, us, s = inputs(x), [], torch.zeros(case.B, case.N)
        for t in range(case.T):
            s = cell(current[t] + recurrent(s))
            us.append(cell.v)
        return torch.stack(us)

    return training_step([inputs, recurrent], membranes, w_out, dy), "no synaptic current; reset in the same step"
