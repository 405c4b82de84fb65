"""A network of the literature against its theory: Brunel, J. Comput. Neurosci. 8, 2000."""
import math
import unittest

import numpy as np

import spikefloss as sf

EXCITATORY, INHIBITORY, PSP, TAU, THRESHOLD, RESET, REFRACTORY, DT = 10000, 2500, 0.1, 20.0, 20.0, 10.0, 2.0, 0.1  # mV, ms
G, DRIVE = 5.0, 2.0  # asynchronous irregular


class Csr:
    """The connections of a population: `degree` different sources for each target."""

    def __init__(self, rng, targets, sources, degree, weight):
        # In each of `degree` equal blocks of sources a random one, so that rows are sorted and have no source twice.
        self.indices = (np.arange(degree) * (sources // degree) + rng.integers(sources // degree, size=(targets, degree))).ravel()
        self.indptr = np.arange(0, len(self.indices) + 1, degree)
        self.data = np.full(len(self.indices), weight)


class Own:
    """An input of its own for each neuron, from `begin` on."""

    def __init__(self, begin, size, weight):
        self.indptr, self.indices, self.data = np.arange(size + 1), begin + np.arange(size), np.full(size, weight)


def mean_field_rate():
    """1/ms, of the stationary state (equations 21 and 22)."""
    degree, gamma = EXCITATORY // 10, INHIBITORY / EXCITATORY
    external = DRIVE * THRESHOLD / (PSP * degree * TAU)

    def of(rate):
        mean = degree * PSP * TAU * (external + rate - G * gamma * rate)
        deviation = math.sqrt(degree * PSP ** 2 * TAU * (external + rate + G ** 2 * gamma * rate))
        u = np.linspace((RESET - mean) / deviation, (THRESHOLD - mean) / deviation, 2001)
        values = np.array([math.exp(x * x) * math.erfc(-x) for x in u])
        integral = np.sum(values[1:] + values[:-1]) / 2 * (u[1] - u[0])
        return 1 / (REFRACTORY + TAU * math.sqrt(math.pi) * integral)

    low, high = 0.005, 0.2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) > middle else (low, middle)
    return low


class BrunelTest(unittest.TestCase):
    def test_rate(self):
        """15 million synapses with delays, refractory steps and a reset at once fire as often as the theory says."""
        rng = np.random.default_rng(1)
        n, beta, gap = EXCITATORY + INHIBITORY, math.exp(-DT / TAU), THRESHOLD - RESET
        jump = PSP / (gap * (1 - beta))  # membranes are counted from the reset, 0, to the threshold, 1
        projections = {}
        for to, begin, size in (("exc", 0, EXCITATORY), ("inh", EXCITATORY, INHIBITORY)):
            projections[f"input_{to}"] = sf.Projection("input", to, Own(begin, size, jump))
            for source, sources, weight in (("exc", EXCITATORY, jump), ("inh", INHIBITORY, -G * jump)):
                projections[f"{source}_{to}"] = sf.Projection(source, to, Csr(rng, size, sources, sources // 10, weight), delay=15)
        network = sf.Network(alpha=0.0, beta=beta, bias=-RESET / gap, populations={"exc": EXCITATORY, "inh": INHIBITORY}, inputs=n, readout_from="exc",
                             projections=projections, refractory=20, reset_delay=0, initial_membrane=rng.uniform(-1, 1, n))
        x = rng.poisson(DRIVE * THRESHOLD / (PSP * TAU) * DT, (1500, 1, n)).astype(np.float32)
        rate = sf.simulate(network, x, ["spikes"])["spikes"][500:].mean() / DT
        expected = mean_field_rate()
        self.assertAlmostEqual(1000 * expected, 37.95, delta=0.05)  # Hz
        self.assertLess(abs(rate / expected - 1), 0.03, rate)


if __name__ == "__main__":
    unittest.main()
