"""The mean rate of a network that is initialised as balanced is that of the balance of excitation and inhibition.

Every neuron has K excitatory and gamma K inhibitory sources and K inputs of rate nu_x, with weights J/sqrt(K), and -g
J/sqrt(K). With delta synapses and reset = subtract the dynamics are

    u[t+1] = beta u[t] + (1 - beta) i[t+1] - theta s[t]

Their mean over time and neurons, with a = J sqrt(K) and the mean membrane m, is

    (1 - beta) m = (1 - beta) a (nu_x - (g gamma - 1) nu) - theta nu
    nu = (nu_x - m / a) / (g gamma - 1 + theta / ((1 - beta) a))                                              (1)

It tends to nu_x / (g gamma - 1) for large a. It differs from it by less than the share

    |m| / (a nu_x) + theta / ((1 - beta) a (g gamma - 1))                                                     (2)

The mean of the inputs of all neurons weights each source by its number of targets, which (1) leaves out. With n neurons
this number has a deviation of the share 1/sqrt(K) at most, so (1) holds to the share 3/sqrt(n K) g gamma/(g gamma - 1)
times the deviation of the rates over their mean, which is below 2.
"""
import h5py
import numpy as np

import program

J, K, GAMMA, G, TAU, NU_X, T, BEGIN = 60.0, 200, 1.0, 2.0, 100.0, 0.1, 1500, 500
HALF = 500  # neurons of each of the two populations
CONFIG = f"""\
[network]
neurons = {HALF}
tau_syn = 0.0
tau_mem = {TAU}
reset = "subtract"
readout = "membrane"
tau_out = 0.0
init = "balanced"
gain = {J}
[[population]]
name = "exc"
[[population]]
name = "inh"
[task]
name = "cue_recall"
inputs = 400
classes = 2
cue = 2.0
delay = 2.0
answer = 2.0
[train]
batch = 1
steps = 1
learning_rate = 1e-12
test_batches = 1
"""
for target in ("exc", "inh"):
    CONFIG += (f'[[projection]]\nsource = "input"\ntarget = "{target}"\nin_degree = {K}\nsign = "excitatory"\n'
               f'init = "balanced"\ngain = {J}\n')
    CONFIG += f'[[projection]]\nsource = "exc"\ntarget = "{target}"\nin_degree = {K}\nsign = "excitatory"\n'
    CONFIG += f'autapses = {str(target != "exc").lower()}\n'
    CONFIG += (f'[[projection]]\nsource = "inh"\ntarget = "{target}"\nin_degree = {int(GAMMA * K)}\n'
               f'sign = "inhibitory"\ngain = {G * J}\n'
               f'autapses = {str(target != "inh").lower()}\n')


class BalancedTest(program.ProgramTest):
    def measure(self, path):
        """The mean rate and the mean membrane from step BEGIN on."""
        with h5py.File(path, "r+") as file:
            w_out = file["network/w_out"]
            w_out[...] = 1 / w_out.shape[1]
            file["network/bias_out"][...] = 0
        with h5py.File(self.folder / "input.h5", "w") as file:
            file["sequences/x"] = np.random.default_rng(1).random((T, 1, 400)) < NU_X
        output = self.folder / "output.h5"
        self.succeed("eval", "--network", path, "--input", self.folder / "input.h5", "--output", output, "--threads", 1)
        found = program.read_file(output)
        return found["spikes"][BEGIN:].mean(), found["readout"][BEGIN:].mean()

    def shares(self, rate, membrane):
        """How far the rate is from (1), and from the limit."""
        a, balance = J * K**.5, G * GAMMA - 1
        jump = 1 / ((1 - np.exp(-1 / TAU)) * a)
        expected = (NU_X - membrane / a) / (balance + jump)
        return abs(rate / expected - 1), abs(rate * balance / NU_X - 1), abs(membrane) / (a * NU_X) + jump / balance

    def test_rate(self):
        self.succeed("train", self.config(CONFIG), "--run-dir", self.folder / "run")
        path = next((self.folder / "run").glob("checkpoint_*.h5"))
        tolerance = 2 * 3 / (2 * HALF * K)**.5 * G * GAMMA / (G * GAMMA - 1)
        from_mean, from_limit, bound = self.shares(*self.measure(path))
        self.assertLess(from_mean, tolerance)
        self.assertLess(from_limit, bound + tolerance)
        self.assertLess(bound, 0.25)
        # With a wrong scale of the weights the test fails.
        for wrong, factor in (("inh", 1.1), ("exc", 0.9), ("input", 1.1)):
            with h5py.File(path, "r") as file:
                right = {target: file[f"network/projections/{wrong}_{target}/data"][:] for target in ("exc", "inh")}
            for scale in (factor, 1.0):
                with h5py.File(path, "r+") as file:
                    for target, weights in right.items():
                        file[f"network/projections/{wrong}_{target}/data"][...] = scale * weights
                if scale != 1.0:
                    self.assertGreater(self.shares(*self.measure(path))[0], tolerance, wrong)


program.main()
