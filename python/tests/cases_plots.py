"""Plots and tables of results: what is drawn has the numbers of the result, and the picture is not empty."""
import importlib.util
import io
import json
import pathlib
import tempfile
import unittest

import numpy as np

import spikefloss as sf


def installed(name):
    return importlib.util.find_spec(name) is not None


RECORDS = [{"step": 0, "floss_step": 10, "kind": "flossing", "floss_loss": 0.6, "exponents": [-0.6, -0.7]},
           {"step": 10, "kind": "training", "loss": 0.7, "accuracy": 0.5, "gradient_norms": {"w_in": 1.0}},
           {"step": 20, "kind": "training", "loss": 0.6, "accuracy": 0.6, "test_loss": 0.65, "test_accuracy": 0.55},
           {"step": 30, "kind": "training", "loss": None, "accuracy": 0.7}]
DIAGNOSTICS = [{"step": 0, "exponents": [-0.3, None, -0.5]}, {"step": 20, "exponents": [-0.1, -0.2, -0.3]}]


class ResultTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_of(self, metrics, diagnostics=()):
        (self.folder / "config.toml").write_text("")
        for name, records in (("metrics", metrics), ("diagnostics", diagnostics)):
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return sf.load_run(self.folder)

    @unittest.skipUnless(installed("xarray"), "xarray is not installed")
    def test_dataset(self):
        run = self.run_of(RECORDS, DIAGNOSTICS)
        metrics, diagnostics = run.metrics.dataset(), run.diagnostics.dataset()
        self.assertEqual(dict(diagnostics.sizes), {"record": 2, "exponents_number": 3})
        self.assertEqual(diagnostics.exponents.swap_dims(record="step").sel(step=20).values.tolist(), [-0.1, -0.2, -0.3])
        self.assertEqual(float(metrics.loss.where(metrics.kind == "training").max()), 0.7)
        self.assertEqual(sf.Table.of([]).dataset().sizes, {})

    @unittest.skipUnless(installed("pandas"), "pandas is not installed")
    def test_frame(self):
        frame = self.run_of(RECORDS, DIAGNOSTICS).metrics.frame()
        self.assertEqual(frame[frame.kind == "training"].step.tolist(), [10, 20, 30])


@unittest.skipUnless(installed("matplotlib"), "matplotlib is not installed")
class PlotTest(ResultTest):
    def setUp(self):
        super().setUp()
        import matplotlib

        matplotlib.use("Agg", force=True)
        import matplotlib.pyplot as plt

        self.addCleanup(plt.close, "all")

    def draw(self, axes):
        """The picture has other colours than its background, and labels at both axes."""
        import matplotlib.pyplot as plt

        for ax in np.atleast_1d(axes):
            self.assertTrue(ax.get_xlabel() and ax.get_ylabel())
        buffer = io.BytesIO()
        figure = np.atleast_1d(axes)[0].figure
        figure.savefig(buffer, format="png")
        buffer.seek(0)
        self.assertGreater(len(np.unique(plt.imread(buffer).reshape(-1, 4), axis=0)), 10)

    def lines(self, ax):
        return [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]

    def test_spectrum(self):
        rng = np.random.default_rng(1)
        net = sf.Network(rng.normal(size=(20, 3)), rng.normal(size=(20, 20)) / 20 ** 0.5, alpha=0.8, beta=0.9)
        s = sf.spectrum(net, rng.normal(size=(50, 4, 3)), 6)
        ax = s.plot()
        mean = [line for line in self.lines(ax) if line[0] == "mean"]
        self.assertEqual(mean, [("mean", [1, 2, 3, 4, 5, 6], s.exponents.tolist())])
        each = [y for _, _, y in self.lines(ax) if len(y) == 6][:4]
        self.assertEqual(each, s.per_sequence.tolist())
        self.draw(ax)
        import matplotlib.pyplot as plt

        mine = plt.figure().add_subplot()
        self.assertIs(s.plot(mine), mine)

    def test_run(self):
        run = self.run_of(RECORDS, DIAGNOSTICS)
        axes = run.plot()
        self.draw(axes)
        self.assertEqual([ax.get_ylabel() for ax in axes], ["loss", "accuracy", "leading exponents (1/step)"])
        self.assertEqual(self.lines(axes[0]), [("training", [10, 20], [0.7, 0.6]), ("test", [20], [0.65])])
        self.assertEqual(self.lines(axes[1]),
                         [("training", [10, 20, 30], [0.5, 0.6, 0.7]), ("test", [20], [0.55])])
        self.assertEqual([line[1:] for line in self.lines(axes[2])],
                         [([0, 20], [-0.3, -0.1]), ([20], [-0.2]), ([0, 20], [-0.5, -0.3])])
        self.assertRaisesRegex(ValueError, "3 panels", run.plot, axes[:2])
        self.assertEqual(len(self.run_of(RECORDS).plot()), 2)
        with self.assertRaisesRegex(ValueError, "no records"):
            self.run_of([]).plot()
