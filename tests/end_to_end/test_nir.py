"""Networks in NIR: published ones give the published spikes, `convert` loses no bit, and what has no exact form is
refused by name. The rule of NIR is stepped by nir_rule.py, and by snnTorch where it is installed.
"""
import json

import h5py
import numpy as np

import nir_rule
import program
from program import BAD_FILE, USAGE

try:
    import nir
except ImportError:
    nir = None
try:
    import snntorch
    import torch
except ImportError:
    snntorch = None

DATA = program.DATA / "nir"
POOL = DATA / "braille_pool.h5"
BRAILLE = {"zero": DATA / "braille_noDelay_bias_zero.nir", "subtract": DATA / "braille_noDelay_noBias_subtract.nir"}
ARRAYS = ("w_in", "w_rec", "bias", "w_out", "bias_out", "alpha", "beta", "kappa", "initial_current", "initial_membrane")


class NirTest(program.ProgramTest):
    def convert(self, source, name, *options):
        target = self.folder / name
        self.succeed("convert", source, target, "--overwrite", *options)
        return target

    def evaluate(self, network, sequences, *options, ranks=None, name="spikes.h5"):
        output = self.folder / name
        result = self.succeed("eval", "--network", network, "--input", sequences, "--output", output, "--threads", 1,
                              *options, ranks=ranks)
        return program.read_file(output), result.out

    def write_x(self, x, name="x.h5", **more):
        path = self.folder / name
        with h5py.File(path, "w") as file:
            file["sequences/x"] = x
            for key, value in more.items():
                file[f"sequences/{key}"] = value
        return path

    def assert_same_network(self, a, b):
        """Both files have the same /network, in every bit; one may have the attribute nir alone."""
        a, b = program.read_file(a), program.read_file(b)
        for name in ARRAYS:
            np.testing.assert_array_equal(a[f"network/{name}"].astype("f4").view("u4"),
                                          b[f"network/{name}"].astype("f4").view("u4"), name)
        for name in ("threshold", "reset", "surrogate", "sharpness", "readout", "version"):
            self.assertEqual(a[f"network@{name}"], b[f"network@{name}"], name)
        self.assertEqual(a.get("network@reset_delay", 1), b.get("network@reset_delay", 1))

    def there_and_back(self, network, *options):
        """NAME.h5 -> NIR -> HDF5."""
        self.assert_same_network(network, self.convert(self.convert(network, "there.nir", *options), "back.h5"))
        return self.folder / "there.nir"


class Braille(NirTest):
    numbers = {"zero": (1116, 0.241447344497876, 94938, 713758), "subtract": (1127, 0.218690093442078, 170761, 242122)}

    def check(self, reset, *options, ranks=None):
        right, loss, hidden, answers = self.numbers[reset]
        found, shown = self.evaluate(BRAILLE[reset], POOL, "--reset", reset, "--count-steps", 256, *options, ranks=ranks)
        self.assertAlmostEqual(found["@loss"], loss, delta=1e-5)
        self.assertEqual(round(found["@accuracy"] * 1158), right)
        self.assertIn(f"({right} right)", shown)
        self.assertRegex(shown, rf"lif1.lif +\d+ +{hidden} ")
        self.assertRegex(shown, rf"lif2 +7 +{answers} ")
        return found

    def test_all_sequences(self):
        """Every spike of 1158 sequences, on one rank and on a grid."""
        with h5py.File(POOL) as file:
            x = file["sequences/x"][:256]
        for reset, path in BRAILLE.items():
            found = self.check(reset)
            expected = nir_rule.step(nir_rule.read(path), x, reset=reset)
            n = expected["lif1.lif"].shape[2]
            np.testing.assert_array_equal(found["spikes"][:256, :, :n], expected["lif1.lif"])
            np.testing.assert_array_equal(found["spikes"][1:, :, n:], expected["lif2"])
            np.testing.assert_array_equal(found["readout"][1:], 256 * expected["output"])
            if reset == "zero" or not program.QUICK:
                grid = self.check(reset, "--grid", "2x2", ranks=4)
                np.testing.assert_array_equal(grid["spikes"], found["spikes"])

    def test_empty_steps_are_appended(self):
        # The same sequences without the empty step that braille_pool.h5 has.
        with h5py.File(POOL) as file:
            x, label = file["sequences/x"][:256, ::20], file["sequences/label"][::20]
            padded = file["sequences/x"][:, ::20], file["sequences/mask"][()]
        bare = self.write_x(x, label=label)
        options = "--count-steps", 256
        found, shown = self.evaluate(BRAILLE["zero"], bare, *options)
        self.assertIn("58 sequences of 257 steps (256 and 1 empty)", shown)
        same, shown = self.evaluate(BRAILLE["zero"], self.write_x(padded[0], "p.h5", label=label, mask=padded[1]), *options)
        self.assertIn("58 sequences of 257 steps:", shown)
        for name in ("@loss", "@accuracy"):
            self.assertEqual(found[name], same[name])
        np.testing.assert_array_equal(found["spikes"], same["spikes"])
        fewer, _ = self.evaluate(BRAILLE["zero"], bare, *options, "--pad", 0)
        self.assertEqual(len(fewer["spikes"]), 256)
        # gradients appends them, too
        losses = []
        for network in (BRAILLE["zero"], self.convert(BRAILLE["zero"], "z.h5", *options)):
            self.succeed("gradients", "--network", network, "--input", bare, "--penalty", "task", "--output",
                         self.folder / "g.h5", "--overwrite", *(options if network.suffix == ".nir" else ()))
            losses.append(program.read_file(self.folder / "g.h5")["loss"])
        np.testing.assert_allclose(losses, found["@loss"], rtol=1e-12)

    def test_published_spikes(self):
        """What the authors recorded in snnTorch, Spyx (a step later there) and Norse (which reset to zero)."""
        with h5py.File(DATA / "braille_published_spikes.h5") as file:
            published = {name: file[f"published_spikes/{name}"][()]
                         for name in ("zero/snntorch", "subtract/spyx", "subtract/norse")}
        sample = DATA / "braille_published_spikes.h5"
        for network, reset, name, count, late in (("zero", "zero", "zero/snntorch", 119, 0),
                                                  ("subtract", "subtract", "subtract/spyx", 120, 1),
                                                  ("subtract", "zero", "subtract/norse", 103, 0)):
            found, _ = self.evaluate(BRAILLE[network], sample, "--reset", reset)
            n = published[name].shape[1]
            spikes = found["spikes"][:256, 0, :n]
            self.assertEqual(spikes.sum(), count)
            np.testing.assert_array_equal(spikes[:256 - late], published[name][late:])

    def test_exponents(self):
        """The first spectra of these networks, of 16 sequences. The bases lie in the hidden neurons, which no others
        drive; random ones move the third digit."""
        chosen = np.linspace(0, 1157, 16).astype(int)
        for reset, hidden, expected in (("zero", 38, (-0.0900, -0.0971, -0.1006, -0.1084)),
                                        ("subtract", 40, (-0.0926, -0.1194, -0.1341, -0.1646))):
            basis = np.linalg.qr(np.random.default_rng(1).standard_normal((2 * hidden, 32)))[0]
            q0 = np.zeros((2, hidden + 7, 32))
            q0[:, :hidden] = basis.reshape(2, hidden, 32)
            with h5py.File(POOL) as file:
                few = self.write_x(file["sequences/x"][:, chosen], q0=np.tile(q0.reshape(1, -1, 32), (16, 1, 1)))
            self.succeed("spectrum", "--network", BRAILLE[reset], "--reset", reset, "--input", few, "--warmup", 10,
                         "--output", self.folder / "s.h5", "--overwrite")
            found = program.read_file(self.folder / "s.h5")["lambda"]
            np.testing.assert_allclose(found[[0, 1, 2, 31]], expected, rtol=0, atol=1e-4)

    def test_there_and_back(self):
        for reset, path in BRAILLE.items():
            network = self.convert(path, f"{reset}.h5", "--reset", reset, "--count-steps", 256)
            again = self.there_and_back(network)
            origin = json.loads(program.read_file(network)["network@nir"])
            self.assertEqual(origin["delay"], 1)
            self.assertEqual(list(origin["populations"]), ["lif1.lif", "lif2"])
            self.assertEqual(program.read_file(self.folder / "back.h5")["network@nir"],
                             program.read_file(network)["network@nir"])
            with h5py.File(POOL) as file:
                x = file["sequences/x"][:256, ::100]
            a, b = (nir_rule.step(nir_rule.read(p), x, reset=reset) for p in (path, again))
            for name in ("lif1.lif", "lif2", "output"):
                np.testing.assert_array_equal(a[name], b[name])
        # A changed network is no longer that graph.
        with h5py.File(network) as file, h5py.File(self.folder / "changed.h5", "w") as changed:
            changed.create_group("network").attrs.update(file["network"].attrs)
            for name in ARRAYS:
                changed[f"network/{name}"] = file[f"network/{name}"][()]
            changed["network/w_rec"][0, 45] = 1.0
        self.fail_with(USAGE, ["no NIR graph steps like this network", "would come out", "remove the attribute nir"],
                       "convert", self.folder / "changed.h5", self.folder / "changed.nir")

    if nir:
        def test_nir_package(self):
            for reset, path in BRAILLE.items():
                there = self.there_and_back(self.convert(path, f"{reset}.h5", "--reset", reset))
                graph = nir.read(str(there))
                self.assertEqual(set(map(tuple, graph.edges)), set(nir_rule.read(there)["edges"]))
                self.assertEqual(graph.nodes["lif2"].metadata["reset"], reset)
                nir.write(str(self.folder / "theirs.nir"), nir.read(str(path)))
                self.assert_same_network(self.convert(path, "a.h5", "--reset", reset),
                                         self.convert(self.folder / "theirs.nir", "b.h5", "--reset", reset))


class Graphs(NirTest):
    def test_random_graphs(self):
        """Every kind of neuron and readout, flat and nested, of one and two layers."""
        cases = [(kind, readout, layers, nested, reset, integration)
                 for kind in ("LIF", "CubaLIF") for readout in ("spikes", "linear", "filter")
                 for layers, nested in ((1, False), (2, True)) for reset, integration in (("zero", "euler"),
                                                                                         ("subtract", "exponential"))]
        for number, case in enumerate(cases):
            if program.QUICK and number % 5:
                continue
            kind, readout, layers, nested, reset, integration = case
            with self.subTest(case=case):
                for seed in range(100):  # until all populations spike
                    rng = np.random.default_rng([seed, number])
                    graph = nir_rule.random_graph(rng, kind, readout, layers, nested)
                    x = (rng.random((80, 5, 3)) < 0.4) * 1.0
                    expected = nir_rule.step(graph, x, reset=reset, integration=integration)
                    if all(v.sum() > 20 for name, v in expected.items() if name.endswith("lif")):
                        break
                path = nir_rule.write(self.folder / "g.nir", graph, fixed=number % 2 == 1)
                options = "--reset", reset, "--integration", integration
                found, _ = self.evaluate(path, self.write_x(x), *options)
                origin = json.loads(found["@nir"])
                for name, (first, size) in origin["populations"].items():
                    d = origin["depth"][name]
                    self.assertGreater(expected[name].sum(), 20, name)
                    np.testing.assert_array_equal(found["spikes"][d:80 + d, :, first:first + size], expected[name])
                np.testing.assert_allclose(found["readout"][origin["delay"]:], expected["output"], rtol=0, atol=1e-5)
                self.there_and_back(self.convert(path, "n.h5", *options))

    def test_other_nodes(self):
        """Scale, biases of several nodes, scalars, several ways, LI and Threshold, I."""
        rng = np.random.default_rng(5)
        x = (rng.random((60, 4, 3)) < 0.5) * 1.0
        sequences = self.write_x(x)
        one = dict(type="LIF", tau=1e-3, r=10.0, v_leak=0.0, v_threshold=1.0)
        silent = dict(type="LI", tau=np.full(4, 1e-3), r=np.full(4, 10.0), v_leak=np.full(4, 0.1))
        shapes = dict(input=dict(type="Input", shape=np.array([3, 1])), output=dict(type="Output", shape=np.array([4])))
        w = dict(type="Affine", weight=rng.normal(0, 1, (4, 3)), bias=rng.normal(0, 0.1, 4))
        w2 = dict(type="Linear", weight=rng.normal(0, 1, (4, 3)))
        square = dict(type="Affine", weight=rng.normal(0, 0.5, (4, 4)), bias=np.full(4, 0.05))
        scale = dict(type="Scale", scale=rng.uniform(0.5, 1.5, 4))
        graphs = {
            "Scale": (dict(shapes, w=w, s=scale, lif=one, rec=square, up=dict(type="Scale", scale=0.7)),
                      [("input", "w"), ("w", "s"), ("s", "lif"), ("lif", "up"), ("up", "rec"), ("rec", "lif"),
                       ("lif", "output")], "lif"),
            "two ways": (dict(shapes, w=w, w2=w2, lif=one, rec=square, s=scale),
                         [("input", "w"), ("input", "w2"), ("w", "lif"), ("w2", "lif"), ("lif", "s"), ("lif", "rec"),
                          ("rec", "lif"), ("s", "lif"), ("lif", "output")], "lif"),
            "Threshold": (dict(shapes, w=w, h=dict(type="Threshold", threshold=np.full(4, 0.4)), rec=square),
                          [("input", "w"), ("w", "h"), ("h", "rec"), ("rec", "h"), ("h", "output")], "h"),
            "LI, Threshold": (dict(shapes, w=w, li=silent, h=dict(type="Threshold", threshold=np.full(4, 0.4)), rec=square),
                              [("input", "w"), ("w", "li"), ("li", "h"), ("h", "rec"), ("rec", "li"), ("h", "output")],
                              "h"),
        }
        for name, (nodes, edges, spiking) in graphs.items():
            with self.subTest(name):
                graph = dict(nodes=nodes, edges=edges)
                if name == "LI, Threshold":  # the cycle goes through both, so the rule needs them as one
                    expected = nir_rule.step(graph_without_reset(graph), x, reset="none")["li"]
                else:
                    expected = nir_rule.step(graph, x)[spiking]
                found, _ = self.evaluate(nir_rule.write(self.folder / "g.nir", graph), sequences)
                self.assertGreater(expected.sum(), 20)
                np.testing.assert_array_equal(found["spikes"], expected)
                self.there_and_back(self.convert(self.folder / "g.nir", "n.h5"))
        # I adds up: the time mean of the readout, times T, is its last value.
        nodes, edges, _ = graphs["Scale"]
        graph = dict(nodes=dict(nodes, i=dict(type="I", r=np.full(4, 3.0))), edges=edges[:-1] + [("lif", "i"), ("i", "output")])
        found, _ = self.evaluate(nir_rule.write(self.folder / "g.nir", graph), sequences, "--count-steps", 60)
        np.testing.assert_allclose(found["readout"].mean(0), nir_rule.step(graph, x)["output"][-1], rtol=1e-5)

    def test_graphs_without_a_network(self):
        """Broken files, and graphs that no network of spikefloss steps like."""
        base = nir_rule.random_graph(np.random.default_rng(3), general=False)
        n = [len(base["nodes"][f"l{k}.lif"]["r"]) for k in (0, 1)]
        square = dict(type="Linear", weight=np.eye(n[0]))

        def edges(*more, **nodes):
            return lambda g: (g["edges"].extend(more), g["nodes"].update(nodes))

        def node(name, **parameters):
            return lambda g: g["nodes"][name].update(parameters)

        cases = [
            (edges(("fc0", "lif")), ["edge fc0 -> lif", "there is no node lif"]),
            (edges(("lif", "fc0")), ["edge lif -> fc0", "there is no node lif"]),
            (node("l0.lif", type="IF"), ["node l0.lif", "IF is not supported", "beta"]),
            (node("l0.lif", type="CubaLI"), ["node l0.lif", "CubaLI is not supported"]),
            (node("l0.lif", type="Delay"), ["node l0.lif", "Delay is not supported", "projections have delays"]),
            (node("fc0", type="Conv2d"), ["node fc0", "Conv2d is not supported"]),
            (lambda g: g["nodes"]["l0.lif"].pop("tau_mem"), ["node l0.lif", "parameter tau_mem is missing"]),
            (node("l0.lif", v_threshold=np.zeros(n[0])), ["node l0.lif", "not above v_reset"]),
            (node("l0.lif", r=np.ones(n[0] + 1)), ["node l0.lif", "values, but the node has"]),
            (node("l0.lif", r=np.full(n[0], np.nan)), ["/node/nodes/l0.lif/r[0]", "not a number"]),
            (node("fc0", weight=np.ones((n[0], 4))), ["node l0.lif", "4 columns"]),
            (node("fc0", bias=np.ones(n[0] + 1)), ["node fc0", "bias has"]),
            (edges(("input", "skip"), ("skip", "l1.lif"), skip=dict(type="Linear", weight=np.ones((n[1], 3)))),
             ["node l1.lif", "skip connection"]),
            (edges(("l0.lif", "skip"), ("skip", "output"), skip=dict(type="Linear", weight=np.ones((2, n[0])))),
             ["different depth"]),
            (edges(more=dict(type="Input", shape=np.array([1]))), ["2 nodes of type Input"]),
            (edges(("a", "b"), ("b", "a"), ("b", "l0.lif"), a=square, b=square), ["form a cycle without a neuron"]),
            (edges(("input", "fc_out")), ["weights from the input have", "the input has 3 numbers"]),
            (edges(("fc0", "li"), ("li", "l0.w_rec"), li=dict(type="LI", tau=np.ones(n[0]), r=np.ones(n[0]), v_leak=np.zeros(n[0]))),
             ["node li (LI) drives l0.lif"]),
            (edges(("output", "fc0")), ["node output (Output) drives"]),
        ]
        for change, texts in cases:
            with self.subTest(texts=texts):
                graph = dict(nodes={name: dict(value) for name, value in base["nodes"].items()}, edges=list(base["edges"]))
                change(graph)
                self.fail_with(BAD_FILE, ["g.nir", *texts], "convert", nir_rule.write(self.folder / "g.nir", graph),
                               self.folder / "n.h5")
        graph = nir_rule.random_graph(np.random.default_rng(3), "LIF", general=False)
        graph["nodes"]["fc1"]["bias"] -= 50.0  # before its first step, only a spike's worth would lead to 0
        self.fail_with(BAD_FILE, ["node l1.lif", "spike before its first step"], "convert",
                       nir_rule.write(self.folder / "g.nir", graph), self.folder / "n.h5")
        path = nir_rule.write(self.folder / "g.nir", base)
        for options, texts in ((("--dt", 1e-2), ["node l", "dt is too long", "--integration exponential"]),
                               (("--order", "old"), ["node l0.lif", "order = old", "two steps later"]),
                               (("--reset", "none"), ["--reset none", "zero, subtract"])):
            self.fail_with(BAD_FILE, texts, "convert", path, self.folder / "n.h5", *options)
        with h5py.File(self.folder / "empty.nir", "w") as file:
            file["network"] = 1
        self.fail_with(BAD_FILE, ["no group /node/nodes"], "convert", self.folder / "empty.nir", self.folder / "n.h5")
        self.fail_with(USAGE, ["one of the two must be a NIR file"], "convert", path, self.folder / "other.nir")
        self.fail_with(USAGE, ["OUT", "--overwrite"], "convert", path, program.write_network(self.folder / "mine.h5"))
        # What the file states is not overruled.
        network = self.convert(path, "n.h5", "--dt", 2e-4, "--reset", "subtract")
        there = self.there_and_back(network)
        for options in (("--dt", 1e-4), ("--reset", "zero"), ("--integration", "exponential"), ("--order", "old")):
            self.fail_with(BAD_FILE, ["its metadata say", options[0][2:], "leave out"], "convert", there,
                           self.folder / "n.h5", *options)
        self.there_and_back(network, "--dt", 1e-3, "--integration", "exponential")


class DamagedFiles(NirTest):
    def test_damaged_files(self):
        """Whatever bytes are flipped or missing, the program ends with 0 or with an error that names the file."""
        whole = BRAILLE["zero"].read_bytes()
        rng = np.random.default_rng(4)
        refused = 0
        for number in range(8 if program.QUICK else 60):
            data = bytearray(whole)
            if number % 4 == 3:
                del data[int(rng.integers(100, len(data))):]
            else:  # mostly in the structures of the library, which lie before and between the numbers
                for place in rng.integers(0, len(data), 1 + 20 * (number % 4)):
                    data[place] ^= 1 << rng.integers(8)
            path = self.folder / "damaged.nir"
            path.write_bytes(data)
            result = program.run("convert", path, self.folder / "n.h5", "--overwrite", limit=30)
            self.assertIn(result.code, (program.SUCCESS, BAD_FILE), str(result))
            if result.code == BAD_FILE:
                refused += 1
                self.check_error(result, BAD_FILE, ["damaged.nir"])
        self.assertGreater(refused, 3)


def graph_without_reset(graph):
    """LI -> Threshold as one LIF that nir_rule.step(reset="none") does not reset."""
    li, h = graph["nodes"]["li"], graph["nodes"]["h"]
    nodes = {name: node for name, node in graph["nodes"].items() if name != "h"}
    nodes["li"] = dict(li, type="LIF", v_threshold=h["threshold"])
    edges = [(("li" if a == "h" else a), b) for a, b in graph["edges"] if (a, b) != ("li", "h")]
    return dict(nodes=nodes, edges=edges)


class Networks(NirTest):
    def network(self, name="network.h5", seed=7, N=20, current=True, **changes):
        rng = np.random.default_rng(seed)
        changes = {"version": 2 if changes.get("reset_delay") == 0 else 1, "readout": "spikes", **changes}
        attributes = {key: changes.pop(key) for key in ("reset_delay",) if key in changes}
        states = {name: changes.pop(name, np.zeros(N)) for name in ("initial_current", "initial_membrane")}
        path = program.write_network(self.folder / name, **{**dict(
            neurons=N, inputs=4, outputs=3, seed=seed, scale=6.0, w_in=rng.normal(0, 2, (N, 4)), bias=rng.normal(0, 0.3, N),
            bias_out=rng.normal(size=3), alpha=rng.uniform(0.3, 0.6, N) * current, beta=rng.uniform(0.5, 0.95, N),
            x=(rng.random((60, 4, 4)) < 0.5) * 1.0, target=None, threshold=np.float32(0.7)), **changes})
        with h5py.File(path, "r+") as file:
            file["network"].attrs.update(attributes)
            for name, value in states.items():
                file[f"network/{name}"] = value
        return path

    def test_there_and_back(self):
        """Networks of every rule that NIR has come back in every bit, and step as the graph."""
        rng = np.random.default_rng(2)
        late = np.where(rng.random(3) < 0.5, 0.0, 0.9)
        for number, (reset, changes) in enumerate((
                ("zero", dict(reset_delay=0)), ("subtract", dict(reset_delay=0, kappa=np.full(3, 0.9))),
                ("zero", dict(reset_delay=0, current=False, kappa=late)), ("subtract", dict(current=False)),
                ("subtract", dict(reset_delay=0, current=False, sharpness=2.5, surrogate="triangle")),
                ("none", dict(current=False)),
                ("zero", dict(reset_delay=0, initial_membrane=rng.uniform(-1, 0.5, 20), initial_current=rng.normal(size=20))))):
            with self.subTest(number=number):
                path = self.network(seed=number, reset=reset, **changes)
                graph = nir_rule.read(self.there_and_back(path))
                with h5py.File(path) as file:
                    x = file["sequences/x"][()]
                if reset == "none":
                    graph["nodes"]["li"], graph["nodes"]["h"] = graph["nodes"].pop("rec.lif"), graph["nodes"].pop("rec.threshold")
                    names = {"rec.lif": "li", "rec.threshold": "h"}
                    graph["edges"] = [(names.get(a, a), names.get(b, b)) for a, b in graph["edges"]]
                    graph = graph_without_reset(graph)
                expected = nir_rule.step(graph, x, reset=reset)
                found, _ = self.evaluate(path, path)
                spikes = expected["li" if reset == "none" else "rec.lif"]
                self.assertGreater(spikes.sum(), 50)
                np.testing.assert_array_equal(found["spikes"], spikes)
                np.testing.assert_allclose(found["readout"], expected["output"], rtol=0, atol=1e-5)

    def test_networks_without_a_graph(self):
        for changes, texts in ((dict(reset="zero"), ["reset zero with reset_delay 1", "network.reset_delay = 0"]),
                               (dict(reset="subtract"), ["reset subtract with reset_delay 1", "currents"]),
                               (dict(reset="none"), ["reset none", "CubaLIF"]),
                               (dict(reset="zero", reset_delay=0, readout="membrane"), ["readout membrane", "spikes"]),
                               (dict(reset="zero", reset_delay=0, threshold=-0.5), ["threshold -0.5"]),
                               (dict(reset="zero", reset_delay=0, initial_membrane=np.full(20, 2.0)),
                                ["neuron 0 has initial_current 0 and initial_membrane 2"])):
            with self.subTest(texts=texts):
                self.fail_with(USAGE, ["no NIR graph steps like this network", *texts], "convert", self.network(**changes),
                               self.folder / "n.nir")

    def trained(self):
        config = self.config("""\
[network]
neurons = 20
reset_delay = 0
readout = "spikes"
sharpness = 2.0
input_gain = 4.0
[task]
name = "delayed_copy"
duration = 40.0
delay = 2.0
[train]
batch = 4
steps = 20
learning_rate = 0.01
test_batches = 1
""")
        self.succeed("train", config, "--run-dir", self.folder / "run", "--threads", 1)
        return program.checkpoints(self.folder / "run")[-1]

    def test_trained_network(self):
        """A checkpoint, exported, spikes equally by the rule of NIR, and in snnTorch where that is installed."""
        checkpoint = self.trained()
        x = np.random.default_rng(1).integers(0, 2, (100, 6, 1)) * 1.0
        found, _ = self.evaluate(checkpoint, self.write_x(x))
        graph = self.there_and_back(checkpoint)
        expected = nir_rule.step(nir_rule.read(graph), x)["rec.lif"]
        self.assertGreater(expected.sum(), 200)
        np.testing.assert_array_equal(found["spikes"], expected)
        if snntorch and nir:
            np.testing.assert_array_equal(found["spikes"], stepped_by_snntorch(graph, x))

    def test_nir_files_in_place_of_networks(self):
        """network.file, spectrum, gradients and info take a graph as the network that it becomes."""
        graph = nir_rule.write(self.folder / "g.nir", nir_rule.random_graph(np.random.default_rng(2), layers=1, inputs=4))
        network = self.convert(graph, "n.h5", "--reset", "subtract", "--surrogate", "gaussian", "--sharpness", 3)
        rng = np.random.default_rng(0)
        sequences = self.write_x(rng.integers(0, 2, (30, 4, 4)), target=rng.integers(0, 2, (30, 4, 2)))
        for command, more in (("spectrum", ()), ("gradients", ("--penalty", "task"))):
            results = []
            for path, options in ((graph, ("--reset", "subtract", "--surrogate", "gaussian", "--sharpness", 3)), (network, ())):
                self.succeed(command, "--network", path, "--input", sequences, "--output", self.folder / "o.h5",
                             "--exponents", 4, "--threads", 1, "--overwrite", *more, *options)
                results.append(program.read_file(self.folder / "o.h5"))
            for name, value in results[0].items():
                np.testing.assert_array_equal(results[1][name], value, name)
        states = []
        for number, keys in enumerate((f'file = "{graph}"\nnir_reset = "subtract"', f'file = "{network}"')):
            config = self.config(f"""\
[network]
{keys}
surrogate = "gaussian"
sharpness = 3.0
[task]
name = "cue_recall"
inputs = 4
classes = 2
cue = 4.0
delay = 2.0
answer = 4.0
[train]
batch = 4
steps = 3
test_batches = 1
""", name=f"c{number}.toml")
            self.succeed("info", "--plan", config)
            self.succeed("train", config, "--run-dir", self.folder / f"run{number}", "--threads", 1)
            states.append(program.trained_state(program.checkpoints(self.folder / f"run{number}")[-1]))
        for name, value in states[0].items():
            np.testing.assert_array_equal(states[1][name], value, name)


def stepped_by_snntorch(path, x):
    """Spikes of Synaptic and Linear, with the parameters as snnTorch's importer reads them off."""
    nodes = nir.read(str(path)).nodes
    lif = nodes["rec.lif"]
    tensor = lambda value: torch.tensor(np.asarray(value), dtype=torch.float64)
    neuron = snntorch.Synaptic(tensor(1 - 1e-4 / lif.tau_syn), tensor(1 - 1e-4 / lif.tau_mem),
                               threshold=float(lif.v_threshold[0]), reset_mechanism="zero", reset_delay=False).double()
    spikes = synaptic = membrane = torch.zeros(x.shape[1], len(lif.r), dtype=torch.float64)
    fc, rec, all_spikes = nodes["rec.in"], nodes["rec.w_rec"], []
    with torch.no_grad():
        for row in x:
            arriving = tensor(row) @ tensor(fc.weight).T + tensor(getattr(fc, "bias", 0.0)) + spikes @ tensor(rec.weight).T
            spikes, synaptic, membrane = neuron(arriving, synaptic, membrane)
            spikes = spikes.double()
            all_spikes.append(spikes.numpy())
    return np.stack(all_spikes)


if __name__ == "__main__":
    program.main()
