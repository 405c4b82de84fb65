"""Networks of populations and projections from files, through the command line.

Each new property is compared, bit for bit, with something that has the same meaning: one population with its two
halves, a sparse projection of all entries with a dense one, a delay with a chain of relay neurons, an adaptation of 0
with none. Every rule of docs/files.md is broken once.
"""
import h5py
import numpy as np

import program

E, I, M, O, T, B = 9, 4, 3, 2, 25, 3
N = E + I


def csr(weights, mask):
    """A matrix with these entries, as scipy.sparse stores it."""
    rows, columns = np.nonzero(mask)
    return dict(indptr=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(mask)))]), indices=columns,
                data=weights[rows, columns])


class Network:
    """A network file of two populations, to be changed before it is written."""

    def __init__(self, seed=3):
        rng = np.random.default_rng(seed)
        self.attributes = dict(format="spikefloss-network", version=2, inputs=M, reset="zero",
                               surrogate="fast_sigmoid", sharpness=3.0, readout="membrane", readout_from="exc",
                               threshold=1.0)
        self.arrays = dict(alpha=np.full(N, .75), beta=np.full(N, .875), bias=np.full(N, .0625),
                           w_out=rng.normal(size=(O, E)), bias_out=np.zeros(O), kappa=np.zeros(O))
        self.populations = dict(exc=(0, E), inh=(E, I))
        self.projections = {}
        excitatory = [("input", "exc", rng.normal(size=(E, M))), ("exc", "exc", 3 * rng.random((E, E))),
                      ("exc", "inh", 3 * rng.random((I, E)))]
        for source, target, weights in [*excitatory, ("inh", "exc", -4 * rng.random((E, I)))]:
            self.project(source, target, dict(weights=weights))
        self.x = 4 * rng.random((T, B, M))
        self.target = rng.integers(0, 2, (T, B, O))

    def project(self, source, target, arrays, name="", **attributes):
        self.projections[name or f"{source}_{target}"] = ({"from": source, "to": target, **attributes}, arrays)

    def write(self, path):
        with h5py.File(path, "w") as file:
            network = file.create_group("network")
            network.attrs.update(self.attributes)
            for name, value in self.arrays.items():
                network[name] = value
            if self.populations is not None:
                network.create_group("populations")
                for name, (begin, size) in self.populations.items():
                    network.create_group(f"populations/{name}").attrs.update(begin=begin, size=size)
            for name, (attributes, arrays) in self.projections.items():
                group = network.create_group(f"projections/{name}")
                group.attrs.update(attributes)
                for part, value in arrays.items():
                    group[part] = value
            file["sequences/x"], file["sequences/target"] = self.x, self.target
        return path


class PopulationsTest(program.ProgramTest):
    def measure(self, network, *options, command="gradients", ranks=None):
        case, output = network.write(self.folder / "case.h5"), self.folder / "output.h5"
        penalty = ("--penalty", "floss", "--exponents", 4) if "floss" in options else ("--penalty", "task")
        extra = [option for option in options if option != "floss"]
        self.succeed(command, "--network", case, "--input", case, "--threads", 1, "--output", output, *penalty, *extra,
                     ranks=ranks)
        return program.read_file(output)

    def assert_same(self, a, b, names):
        for name in names:
            other = names[name] if isinstance(names, dict) else name
            self.assertTrue(np.any(a[name]), name)
            np.testing.assert_array_equal(a[name], b[other], name)

    def test_one_population_is_its_two_halves(self):
        one, two = Network(), Network()
        weights = {name: arrays["weights"] for name, (_, arrays) in one.projections.items()}
        one.projections, two.projections = {}, {}
        one.populations, two.populations = dict(all=(0, N)), dict(a=(0, 5), b=(5, N - 5))
        del one.attributes["readout_from"], two.attributes["readout_from"]
        w_rec, w_in = np.zeros((N, N)), np.zeros((N, M))
        w_rec[:E, :E], w_rec[E:, :E], w_rec[:E, E:] = weights["exc_exc"], weights["exc_inh"], weights["inh_exc"]
        w_in[:E] = weights["input_exc"]
        one.project("all", "all", dict(weights=w_rec), "rec")
        one.project("input", "all", dict(weights=w_in), "in")
        for target, rows in (("a", slice(0, 5)), ("b", slice(5, N))):
            two.project("input", target, dict(weights=w_in[rows]))
            for source, columns in (("a", slice(0, 5)), ("b", slice(5, N))):
                two.project(source, target, dict(weights=w_rec[rows, columns]))
        for network in one, two:
            network.arrays["w_out"] = np.random.default_rng(1).normal(size=(O, N))
        plain = Network()
        plain.projections, plain.populations = {}, None
        plain.attributes = {**one.attributes, "version": 1}
        del plain.attributes["inputs"]
        plain.arrays = {**one.arrays, "w_rec": w_rec, "w_in": w_in}
        for penalty in ("task", "floss"):
            found, halves, whole = (self.measure(network, penalty) if penalty == "floss" else self.measure(network)
                                    for network in (one, two, plain))
            self.assert_same(found, halves, ["loss", "bias"] if penalty == "task" else ["loss"])
            self.assert_same(whole, found, {"w_rec": "projections/rec", "loss": "loss"})
            np.testing.assert_array_equal(
                np.block([[halves[f"projections/{source}_{target}"] for source in "ab"] for target in "ab"]),
                found["projections/rec"])

    def test_sparse_with_all_entries_is_dense(self):
        dense, sparse = Network(), Network()
        for name, (_, arrays) in sparse.projections.items():
            weights = arrays.pop("weights")
            arrays.update(csr(weights, np.ones_like(weights)))
        for options in ((), ("floss",)):
            a, b = self.measure(dense, "--sums", "float64", *options), self.measure(sparse, "--sums", "float64", *options)
            self.assert_same(a, b, ["loss", "state_gradient_norm"])
            for name in dense.projections:
                np.testing.assert_array_equal(a[f"projections/{name}"].ravel(), b[f"projections/{name}"], name)

    def test_a_delay_is_a_chain_of_relays(self):
        delayed, chain = Network(), Network()
        attributes, arrays = delayed.projections["exc_inh"]
        attributes["delay"] = 3
        del chain.projections["exc_inh"]
        chain.populations |= dict(relay1=(N, E), relay2=(N + E, E))
        chain.attributes |= dict(reset="none")
        delayed.attributes |= dict(reset="none")
        for name, relay in dict(alpha=0., beta=0., bias=0.).items():
            chain.arrays[name] = np.concatenate([chain.arrays[name], np.full(2 * E, relay)])
        for network in (delayed, chain):
            network.attributes |= dict(threshold=.5)
        chain.project("exc", "relay1", dict(weights=np.eye(E)))
        chain.project("relay1", "relay2", dict(weights=np.eye(E)))
        chain.project("relay2", "inh", arrays)
        a, b = self.measure(delayed, "--sums", "float64"), self.measure(chain, "--sums", "float64")
        self.assert_same(a, b, ["loss", "w_out"])
        attributes["delay"] = 1
        self.assertNotEqual(self.measure(delayed, "--sums", "float64")["loss"], a["loss"])

    def test_an_adaptation_of_0_is_none(self):
        without = self.measure(Network())
        for kind in ("threshold", "current"):
            network = Network()
            network.attributes["adaptation"] = kind
            network.arrays["rho"] = np.full(N, .9375)
            self.assert_same(without, self.measure(network), ["loss", "bias", "projections/exc_exc"])
            network.arrays["adapt_spike"] = np.full(N, .25)
            self.assertNotEqual(self.measure(network)["loss"], without["loss"])

    def train(self, network, *assignments, steps=1, directory="run", **options):
        """Trains from the file on its own sequences; returns the checkpoint."""
        case = network.write(self.folder / "case.h5")
        with h5py.File(self.folder / "data.h5", "w") as file:
            file["x"], file["target"] = np.swapaxes(network.x, 0, 1), np.swapaxes(network.target, 0, 1)
        config = self.config(f"""
            [network]
            file = "{case}"
            [task]
            name = "sequences"
            file = "{self.folder / 'data.h5'}"
            test_file = "{self.folder / 'data.h5'}"
            [train]
            batch = {B}
            steps = {steps}
            learning_rate = 0.0625
            """)
        sets = [word for assignment in assignments for word in ("--set", assignment)]
        self.succeed("train", config, "--run-dir", self.folder / directory, *sets, **options)
        return program.trained_state(sorted((self.folder / directory).rglob("checkpoint_*.h5"))[-1])

    def adaptive(self):
        network = Network()
        network.attributes |= dict(adaptation="current", refractory=2)
        network.arrays |= dict(rho=np.full(N, .9375), adapt_spike=np.full(N, .25))
        del network.attributes["threshold"]
        network.arrays["threshold"] = np.linspace(.5, 1, N)
        network.project("exc", "exc", csr(np.ones((E, E)), np.tri(E)), "late", delay=4, sign="excitatory")
        return network

    def test_a_network_is_read_as_it_was_written(self):
        for ranks, grid in ((None, "1x1"), (2, "2x1")):
            found = self.train(self.adaptive(), 'train.parameters=["bias_out"]', f'parallel.grid="{grid}"', directory=grid,
                               ranks=ranks)
            for name, value in program.read_file(self.folder / "case.h5").items():
                if name.startswith("network") and name != "network/bias_out":
                    np.testing.assert_array_equal(found[name], np.asarray(value).astype(np.asarray(found[name]).dtype),
                                                  name)

    def test_what_version_1_lacks_makes_version_2(self):
        plain = dict(w_in=np.ones((N, M)), w_rec=np.eye(N), w_out=np.ones((O, N)), rho=np.full(N, .9375),
                     threshold=np.ones(N))
        for changes, version in (({}, 1), (dict(surrogate="exponential"), 2), (dict(refractory=1), 2),
                                 (dict(adaptation="current"), 2), (dict(threshold=None), 2), (dict(reset_delay=0), 2)):
            network = Network()
            network.populations, network.projections = None, {}
            network.arrays |= {name: plain[name] for name in ("w_in", "w_rec", "w_out")}
            if "adaptation" in changes:
                network.arrays["rho"] = plain["rho"]
            if "threshold" in changes:
                network.arrays["threshold"] = plain["threshold"]
            network.attributes = {name: value for name, value in {**network.attributes, **changes}.items()
                                  if name not in ("inputs", "readout_from") and value is not None}
            with self.subTest(**changes):
                self.assertEqual(self.train(network, directory=f"run{version}{len(changes)}{changes}")
                                 ["network@version"], version)

    def test_training_keeps_signs(self):
        network = Network()
        for name, (attributes, _) in network.projections.items():
            attributes["sign"] = "any" if name.startswith("input") else "inhibitory" if name[:3] == "inh" else "excitatory"
        sparse = network.projections["exc_inh"][1]
        sparse.update(csr(sparse.pop("weights"), np.ones((I, E))))
        found = self.train(network, 'run.sums="float64"', steps=40)
        exc, inh = found["network/projections/exc_inh/data"], found["network/projections/inh_exc/weights"]
        for weights in (exc, found["network/projections/exc_exc/weights"], -inh):
            self.assertGreaterEqual(weights.min(), 0.0)
        self.assertTrue(np.any(exc == 0.0) and np.any(exc != sparse["data"]))
        self.assertTrue(np.any(found["network/projections/input_exc/weights"] < 0.0))
        self.assertGreater(np.abs(found["optimiser/task/first/projections/exc_inh"]).max(), 0.0)

    def test_single_projections_are_trained(self):
        network = self.adaptive()  # exc_exc, exc_inh and inh_exc share a matrix; late is sparse
        network.projections["exc_inh"][0]["sign"] = "excitatory"
        written = program.read_file(network.write(self.folder / "written.h5"))
        common = ('run.sums="float64"', "checkpoint.every=2", 'train.optimiser="adam"')

        def named(*names):
            return 'train.parameters=["bias_out", ' + ", ".join(f'"projection.{name}"' for name in names) + "]"

        one = self.train(network, named("exc_inh", "late"), *common, "train.clip=1e-3", steps=4, directory="one")
        for name, (_, arrays) in network.projections.items():
            for part in set(arrays) & {"weights", "data"}:
                changed = one[f"network/projections/{name}/{part}"] != written[f"network/projections/{name}/{part}"].astype("f4")
                self.assertEqual(np.any(changed), name in ("exc_inh", "late"), name)
                self.assertEqual(np.any(one[f"optimiser/task/second/projections/{name}"]), name in ("exc_inh", "late"))
        # All projections by name are those of w_in and w_rec.
        names = [name for name in network.projections if not name.startswith("input")]
        many = self.train(network, named(*names, "input_exc"), *common, steps=2, directory="many")
        whole = self.train(network, 'train.parameters=["bias_out", "w_in", "w_rec"]', *common, steps=2, directory="whole")
        self.assert_same(whole, many, [f"network/projections/{name}/weights" for name in names if name != "late"])
        self.assert_same(whole, many, ["network/projections/late/data", "network/projections/input_exc/weights",
                                       "optimiser/task/first/projections/inh_exc"])
        # On another grid, and after a restart; the norm for clipping is that of the named projections.
        sets = [*common, named("exc_inh", "late"), "train.clip=1e-3"]
        self.train(network, *sets, 'parallel.grid="2x2"', steps=2, directory="parts", ranks=4)
        self.succeed("train", self.folder / "small.toml", "--run-dir", self.folder / "parts", "--resume", "--grid", "2x1",
                     *(word for setting in (*sets, "train.steps=4") for word in ("--set", setting)), ranks=2)
        found = program.trained_state(sorted((self.folder / "parts").rglob("checkpoint_*.h5"))[-1])
        for name in ("exc_inh/weights", "late/data", "exc_exc/weights"):
            self.assertLess(program.difference(found[f"network/projections/{name}"], one[f"network/projections/{name}"]),
                            1e-5, name)
        # Flossing has its own list.
        floss = self.train(network, *common, 'train.parameters=["bias_out"]', 'flossing.schedule=["before"]',
                           "flossing.before=2", "flossing.exponents=2", "flossing.warmup=5",
                           "flossing.parameters=projection.exc_exc", directory="floss")
        for name in ("exc_inh", "inh_exc", "exc_exc"):
            changed = floss[f"network/projections/{name}/weights"] != written[f"network/projections/{name}/weights"].astype("f4")
            self.assertEqual(np.any(changed), name == "exc_exc", name)
        for sets, words in (
                ((named("exc_in"),), ["train.parameters names projection.exc_in, which does not exist",
                                      "did you mean projection.exc_inh?"]),
                (('train.parameters=["w_rec", "projection.late"]',), ["names projection.late and w_rec, which contains it"]),
                ((named("late", "late"),), ["names projection.late more than once"]),
                (('flossing.schedule=["before"]', "flossing.before=1", "flossing.exponents=2",
                  "flossing.through_state=false", "flossing.parameters=projection.input_exc"),
                 ["flossing.parameters names projection.input_exc, on which the exponents depend only through the state"])):
            with self.subTest(words=words):
                result = program.run("train", self.folder / "small.toml", "--run-dir", self.folder / "never", "--check",
                                     *(word for setting in sets for word in ("--set", setting)))
                self.assertEqual(result.code, program.USAGE, result)
                for word in words:
                    self.assertIn(word, result.err)

    def test_a_run_continues_on_another_grid(self):
        whole = self.train(self.adaptive(), 'run.sums="float64"', "checkpoint.every=2", steps=4, directory="whole")
        self.train(self.adaptive(), 'run.sums="float64"', "checkpoint.every=2", 'parallel.grid="2x2"', steps=2,
                   directory="parts", ranks=4)
        self.succeed("train", self.folder / "small.toml", "--run-dir", self.folder / "parts", "--resume", "--grid", "2x1",
                     "--set", "train.steps=4", "--set", 'run.sums="float64"', "--set", "checkpoint.every=2", ranks=2)
        found = program.trained_state(sorted((self.folder / "parts").rglob("checkpoint_*.h5"))[-1])
        for name in whole:
            if name.startswith("network/") and "@" not in name:
                self.assertLess(program.difference(found[name], whole[name]), 1e-5, name)

    def test_a_rank_without_a_sequence(self):
        network = Network()
        network.project("exc", "exc", dict(weights=np.full((E, E), 0.5)), name="late", delay=3)
        settings = ['flossing.schedule=["before"]', "flossing.before=2", "flossing.batch=1", "flossing.exponents=2"]
        one = self.train(network, *settings, steps=1, directory="one")
        two = self.train(network, *settings, 'parallel.grid="1x2"', steps=1, directory="two", ranks=2)
        late = "network/projections/late/weights"
        self.assertTrue(np.any(one[late] != 0.5))
        self.assertLess(program.difference(two[late], one[late]), 1e-5)

    def test_flossing_and_trained_constants(self):
        settings = ["train.report_every=1", 'flossing.schedule=["before"]', "flossing.before=3", "flossing.exponents=2", "flossing.warmup=5",
                    'train.parameters=["w_rec", "threshold", "rho", "adapt_spike"]']
        network = self.adaptive()
        del network.arrays["threshold"]
        network.attributes["threshold"] = 1.0
        found = self.train(network, *settings, "flossing.first=3", 'flossing.target_from="adaptation"', steps=3)
        for name, before in dict(threshold=1.0, rho=.9375, adapt_spike=.25).items():
            self.assertEqual(len(found[f"network/{name}"]), N)
            self.assertTrue(np.any(found[f"network/{name}"] != before), name)
        record = program.read_lines(self.folder / "run" / "metrics.jsonl")[0]
        self.assertEqual(len(record["exponents"]), 4)
        distance = np.array(record["exponents"][2:]) - np.log(.9375)
        self.assertAlmostEqual(record["floss_loss"], np.mean(distance**2), places=6)

    def test_every_rule(self):
        def changed(attribute, value):
            return lambda network: network.attributes.update({attribute: value})

        def removed(name):
            return lambda network: (network.attributes.pop(name, None), network.arrays.pop(name, None))

        def array(name, value):
            return lambda network: network.arrays.update({name: value})

        def population(name, begin, size):
            return lambda network: network.populations.update({name: (begin, size)})

        def projection(name, **attributes):
            return lambda network: network.projections[name][0].update(attributes)

        def sparse(**parts):
            def change(network):
                arrays = csr(np.ones((E, E)), np.eye(E))
                network.projections["exc_exc"] = ({"from": "exc", "to": "exc"}, {**arrays, **parts})
            return change

        def weights(name, value):
            return lambda network: network.projections[name][1].update(weights=value)

        def renamed(old, new):
            return lambda network: network.populations.update({new: network.populations.pop(old)})

        whole = csr(np.ones((E, E)), np.eye(E))
        cases = [
            (changed("version", 3), "version 3"),
            (changed("version", 1), "version is 1"),
            (changed("refractory", -1), "refractory"),
            (changed("reset_delay", 2), "reset_delay"),
            (changed("adaptation", "membrane"), "adaptation"),
            (changed("sharpness", 0.0), "sharpness"),
            (changed("inputs", 0), "inputs"),
            (changed("readout_from", "out"), "readout_from"),
            (removed("threshold"), "threshold"),
            (array("threshold", np.ones(N)), "threshold"),
            (array("w_rec", np.ones((N, N))), "w_rec"),
            (removed("alpha"), "alpha"),
            (array("beta", np.full(N, 1.0)), "beta"),
            (array("bias", np.ones(E)), "bias"),
            (array("bias", np.full(N, np.nan)), "bias"),
            (changed("adaptation", "threshold"), "rho"),
            (lambda network: network.populations.clear(), "no population"),
            (population("more", N, 0), "size"),
            (population("more", N + 1, 2), "begins"),
            (population("more", N - 1, 2), "begins"),
            (renamed("inh", "input"), "input"),
            (renamed("inh", "in.h"), "in.h"),
            (projection("exc_inh", **{"from": "axc"}), "axc"),
            (projection("exc_inh", to="input"), "input"),
            (projection("exc_inh", delay=0), "delay"),
            (projection("exc_inh", delay=1.5), "delay"),
            (projection("exc_inh", sign="positive"), "sign"),
            (projection("inh_exc", sign="excitatory"), "excitatory"),
            (weights("exc_inh", np.ones((I, E + 1))), "weights"),
            (sparse(weights=np.ones((E, E))), "both"),
            (lambda network: network.projections["exc_exc"][1].clear(), "neither"),
            (sparse(indptr=whole["indptr"] + 1), "indptr"),
            (sparse(indptr=whole["indptr"][::-1]), "indptr"),
            (sparse(indptr=np.minimum(whole["indptr"], E - 1)), "indptr"),
            (sparse(indptr=whole["indptr"][:-1]), "indptr"),
            (sparse(indices=whole["indices"] + 1), "indices"),
            (sparse(indices=whole["indices"][:-1]), "indices"),
            (sparse(indptr=np.array([0, 2, 2, 3, 4, 5, 6, 7, 8, 9]), indices=np.array([1, 0, 2, 3, 4, 5, 6, 7, 8])), "indices"),
            (sparse(data=np.full(E, np.inf)), "data"),
        ]
        for change, word in cases:
            network = Network()
            change(network)
            with self.subTest(word=word):
                case = network.write(self.folder / "bad.h5")
                result = program.run("spectrum", "--network", case, "--input", case, "--output",
                                          self.folder / "never.h5")
                self.assertEqual(result.code, program.BAD_FILE, result)
                self.assertIn(word, "\n".join(result.errors()), result)
                self.assertFalse((self.folder / "never.h5").exists())


if __name__ == "__main__":
    program.main()
