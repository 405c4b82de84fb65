"""Projections of a config whose synapses come from a file.

The network of the first checkpoint, in which only bias_out is trained, is compared bit for bit with the file, on
several grids. Every rule for such files is broken once.
"""
import os
import re
import shutil

import h5py
import numpy as np

import program
from test_population_files import csr

E, I, M = 9, 4, 2

CONFIG = """\
[network]
readout_from = "exc"
weight_step = 0.125
[[population]]
name = "exc"
neurons = 9
[[population]]
name = "inh"
neurons = 4
[[projection]]
source = "input"
target = "exc"
file = "{file}"
path = "from_input"
[[projection]]
source = "exc"
target = "inh"
file = "{file}"
path = "/sparse"
sign = "excitatory"
delay = 2.0
[[projection]]
source = "inh"
target = "exc"
file = "{file}"
path = "pattern/"
init = "{init}"
sign = "inhibitory"
[[projection]]
source = "exc"
target = "exc"
file = "{file}"
path = "dense"
storage = "sparse"
[task]
name = "delayed_copy"
duration = 12.0
inputs = 2
coding = "spikes"
delay = 2.0
[train]
batch = 4
steps = 1
test_batches = 1
parameters = ["bias_out"]
"""


class ProjectionFilesTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(2)
        self.file = self.folder / "weights.h5"
        self.sparse, self.mask = csr(rng.random((I, E)), rng.random((I, E)) < .5), rng.random((E, I)) < .5
        self.mask[3] = False  # a neuron without synapses
        self.dense, self.from_input = rng.normal(size=(E, E)), rng.normal(size=(E, M))
        pattern = csr(np.ones((E, I)), self.mask)
        self.groups = dict(sparse=dict(self.sparse), pattern={name: pattern[name] for name in ("indptr", "indices")},
                           dense=dict(weights=self.dense))

    def write(self):
        with h5py.File(self.file, "w") as file:
            file["from_input"] = self.from_input
            for name, arrays in self.groups.items():
                for part, value in arrays.items():
                    file[f"{name}/{part}"] = value
        return self.config(CONFIG.format(file=self.file, init="gaussian"))

    def train(self, *options, run="run", ranks=None):
        self.succeed("train", self.folder / "small.toml", "--run-dir", self.folder / run, "--threads", 1, *options,
                     ranks=ranks)
        return program.trained_state(sorted((self.folder / run).rglob("checkpoint_*.h5"))[-1])

    def assert_written(self, found):
        where = "network/projections/"
        for name, value in dict(input_exc=self.from_input, exc_exc=self.dense).items():
            whole = found.get(f"{where}{name}/weights", found.get(f"{where}{name}/data"))
            np.testing.assert_array_equal(whole.ravel(), value.astype("f4").ravel(), name)
        for part, value in self.sparse.items():
            np.testing.assert_array_equal(found[f"{where}exc_inh/{part}"], np.asarray(value).astype(
                found[f"{where}exc_inh/{part}"].dtype), part)
        np.testing.assert_array_equal(found[f"{where}inh_exc/indices"], np.nonzero(self.mask)[1])

    def test_a_network_has_the_weights_of_its_file_on_every_grid(self):
        self.write()
        first = None
        for grid, ranks in (("1x1", None), ("2x1", 2), ("1x2", 2), ("2x2", 4)):
            found = self.train("--grid", grid, run=grid, ranks=ranks)
            self.assert_written(found)
            drawn = found["network/projections/inh_exc/data"]
            self.assertTrue(np.any(drawn) and np.all(drawn <= 0) and np.all(drawn % .125 == 0), drawn)
            first = drawn if first is None else first
            np.testing.assert_array_equal(drawn, first, grid)
        # init takes the mean number of synapses of a target from the file.
        equal = self.train("--set", "projection.inh_exc.init=balanced", "--set", "network.weight_step=0", run="balanced")
        np.testing.assert_allclose(equal["network/projections/inh_exc/data"], -1 / np.sqrt(self.mask.sum() / E), 1e-6)
        # A checkpoint is such a file, too.
        taken = self.train("--set", f'projection.exc_exc.file="{self.folder}/1x1/checkpoint_000000001.h5"', "--set",
                           'projection.exc_exc.path="/network/projections/exc_inh"', "--set",
                           'projection.exc_exc.target="inh"', run="taken")
        np.testing.assert_array_equal(taken["network/projections/exc_exc/data"], self.sparse["data"].astype("f4"))

    def test_reversed_axes_and_the_plan(self):
        self.write()
        with h5py.File(self.file, "r+") as file:
            del file["dense/weights"]
            file["dense/weights"] = self.dense.T
            file["dense"].attrs["layout"] = "column_major"
        self.assert_written(self.train())
        many = 400  # enough that rounding of sizes does not hide them
        self.groups["pattern"] = dict(weights=-np.ones((E, many)))

        def plan(mask, *sets):
            self.groups["sparse"] = csr(np.ones((many, E)), mask)
            words = [word for setting in (f"population.inh.neurons={many}", *sets) for word in ("--set", setting)]
            out = self.succeed("info", "--plan", self.write(), *words).out
            return re.search(r"^ +weights +(\d+)", out, re.MULTILINE)[1]

        few, full = plan(np.eye(many, E)), plan(np.ones((many, E)))
        drawn = ('projection.exc_inh.file=""', "projection.exc_inh.path=/")
        self.assertEqual(full, plan(np.ones((many, E)), *drawn, "projection.exc_inh.storage=sparse"))
        self.assertGreater(int(full) - int(few), 4 * (many - 1) * E)

    def test_resume_needs_no_file_but_not_another_one(self):
        self.write()
        again = ("--resume", "--set", "train.steps=2")
        self.train()
        moved = self.folder / "moved.h5"
        os.rename(self.file, moved)
        self.assert_written(self.train(*again))
        sets = [word for name in ("input_exc", "exc_inh", "inh_exc", "exc_exc")
                for word in ("--set", f'projection.{name}.file="{moved}"')]
        self.assert_written(self.train("--resume", "--set", "train.steps=3", *sets))
        self.groups["sparse"]["data"] = self.sparse["data"] * 2
        self.write()
        result = program.run("train", self.folder / "small.toml", "--run-dir", self.folder / "run", *again)
        self.assertEqual(result.code, program.USAGE, result)
        self.assertIn("projection.input_exc.file", result.err)
        self.assertIn("holds other data than the run began with", result.err)
        result = program.run("train", self.folder / "small.toml", "--run-dir", self.folder / "run", "--resume", "--set",
                             'projection.exc_inh.path="pattern"')
        self.assertEqual(result.code, program.USAGE, result)
        self.assertIn('projection.exc_inh.path is "pattern"', result.err)

    def test_every_rule(self):
        whole = csr(np.ones((I, E)), np.tri(I, E))

        def part(group, **parts):
            return lambda: self.groups[group].update(parts)

        def sparse(**parts):
            return lambda: self.groups["sparse"].update({**whole, **parts})

        def without(group, name):
            return lambda: self.groups[group].pop(name)

        cases = [
            (sparse(), []),
            (without("sparse", "data"), []),
            (lambda: self.groups.pop("sparse"), ["/sparse is missing", "the file has dense, from_input, pattern"]),
            (without("sparse", "indptr"), ["/sparse has neither weights nor indptr"]),
            (without("sparse", "indices"), ["/sparse/indices"]),
            (without("dense", "weights"), ["/dense is missing"]),
            (part("sparse", weights=np.ones((I, E))), ["/sparse has both weights and indptr"]),
            (part("dense", weights=np.ones((E, I))), ["/dense/weights", "[9, 4]", "[9, 9]", "exc has 9 neurons"]),
            (part("dense", weights=np.where(np.eye(E), np.nan, 1)), ["/dense/weights[0, 0]", "NaN"]),
            (lambda: setattr(self, "from_input", self.from_input.T), ["/from_input", "[2, 9]", "[9, 2]"]),
            (sparse(indptr=whole["indptr"][:-1]), ["/sparse/indptr has shape [4]", "[5]"]),
            (sparse(indptr=whole["indptr"] + 1), ["/sparse/indptr[0] is 1 but must be 0"]),
            (sparse(indptr=whole["indptr"][::-1]), ["/sparse/indptr[0] is 10"]),
            (sparse(indptr=np.minimum(whole["indptr"], 6)), ["/sparse/indptr[4] is 6 but must be 10"]),
            (sparse(indptr=np.array([0, 3, 2, 6, 10])), ["/sparse/indptr[2] is 2", "less than the number before"]),
            (sparse(indices=whole["indices"] + 6), ["/sparse/indices[9] is 9 but must be 0 to 8"]),
            (sparse(indices=whole["indices"] - 1), ["/sparse/indices[0] is -1 but must be 0 to 8"]),
            (sparse(indices=whole["indices"][::-1]), ["does not rise within row 1", "W.sum_duplicates()"]),
            (sparse(indices=np.zeros(10, int)), ["/sparse/indices[2] is 0, which does not rise within row 1"]),
            (sparse(indices=whole["indices"] + .5), ["/sparse/indices[0]"]),
            (sparse(indices=whole["indices"][:-1]), ["/sparse/indices", "[9]", "[10]"]),
            (sparse(data=-whole["data"]), ["element 0 of /sparse/data is -1, but its projection is excitatory"]),
            (sparse(data=np.full(10, np.inf)), ["/sparse/data[0]", "inf"]),
            (sparse(data=np.ones((10, 1))), ["/sparse/data", "[nnz]"]),
            (part("pattern", data=np.ones(self.mask.sum())), ["/pattern/data is 1, but its projection is inhibitory"]),
        ]
        groups, from_input = {name: dict(arrays) for name, arrays in self.groups.items()}, self.from_input
        for change, words in cases:
            self.groups, self.from_input = {name: dict(arrays) for name, arrays in groups.items()}, from_input
            change()
            with self.subTest(words=words):
                self.expect(self.write(), words)
        self.groups, self.from_input = groups, from_input
        config = self.write()
        settings = [
            ('projection.exc_inh.storage="dense"', ['projection.exc_inh.storage = "dense", but /sparse in']),
            ("network.init=fluctuation", "projection.inh_exc.init=fluctuation", "projection.inh_exc.sign=any",
             "projection.exc_inh.sign=any", ["its file has weights", "choose another init"]),
            (f'projection.exc_inh.file="{self.folder}"', ["this is a folder"]),
            ('projection.exc_inh.file="nowhere.h5"', ["nowhere.h5"]),
        ]
        for *sets, words in settings:
            with self.subTest(sets=sets):
                self.expect(config, words, *(word for setting in sets for word in ("--set", setting)))
        for size in (0, 100, os.path.getsize(self.file) // 2, os.path.getsize(self.file) - 1):
            self.write()
            os.truncate(self.file, size)
            with self.subTest(size=size):
                self.expect(config, [str(self.file)])

    def expect(self, config, words, *options):
        for check in ([], ["--check"]):
            result = program.run("train", config, "--run-dir", self.folder / ("never" if words else "run"), *options,
                                 *check)
            self.assertEqual(result.code, program.BAD_FILE if words else program.SUCCESS, result)
            for word in words:
                self.assertIn(word, result.err, result)
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        self.assertFalse((self.folder / "never").exists())


if __name__ == "__main__":
    program.main()
