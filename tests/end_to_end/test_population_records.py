"""What the records and the page of a run have for networks of populations: the raster with its populations, the rate of
each, the share of weights at 0 of each projection with a sign. They are those of the spikes and of the checkpoint, equal
on every grid; a network with one population has none of them. A sweep over populations ends in one table.
"""
import csv
import json
import re

import numpy as np

import browser
import program

CHROMIUM = browser.find()
# The axis of the charts is "step", so a population of this name is a special case.
NAMES = ["exc", "inh", "one", "step", "x" * 58, "A-b_3", *(f"p{i}" for i in range(6))]


def config(names, sizes):
    text = program.SMALL_CONFIG.replace("[task]", 'init = "balanced"\nreadout_from = "exc"\nbias_mean = 0.2\n[task]')
    for name, size in zip(names, sizes):
        text += f'[[population]]\nname = "{name}"\nneurons = {size}\n'
        text += f'[[projection]]\nsource = "input"\ntarget = "{name}"\ninit = "gaussian"\n'
        text += f'[[projection]]\nsource = "exc"\ntarget = "{name}"\nsign = "excitatory"\nin_degree = 3\n'
        text += f'[[projection]]\nsource = "inh"\ntarget = "{name}"\nsign = "inhibitory"\n'
    return text


class PopulationRecordsTest(program.ProgramTest):
    def train(self, text, directory, *options, **more):
        self.succeed("train", self.config(text), "--run-dir", self.folder / directory, "--set", 'run.sums="float64"',
                     *options, **more)
        return self.folder / directory, program.read_lines(self.folder / directory / "diagnostics.jsonl")

    def test_rates_and_shares(self):
        sizes = [40, 33, 1, 7, *[5] * 8]
        text = config(NAMES, sizes)
        directory, records = self.train(text, "run", "--set", "diagnostics.batch=1", "--set", "train.learning_rate=0.1",
                                        "--set", "metrics.tensorboard=true")
        raster = json.loads((directory / "raster.json").read_text())
        begins = np.cumsum([0, *sizes[:-1]])
        self.assertEqual(raster["populations"],
                         [dict(name=n, begin=b, size=s) for n, b, s in zip(NAMES, begins.tolist(), sizes)])
        # With 1 sequence and all neurons shown the raster has every spike that the rates count.
        counts = np.array([len(spikes) for spikes in raster["spikes"]])
        expected = {name: counts[begin:begin + size].sum() / (size * raster["steps"])
                    for name, begin, size in zip(NAMES, begins, sizes)}
        self.assertEqual(records[-1]["rate_by_population"], expected)
        self.assertGreater(len(set(expected.values())), 3)
        # The share of zeros in the last checkpoint, and no others than those of projections with a sign.
        network = program.read_file(sorted(directory.glob("checkpoint_*.h5"))[-1])
        shares = records[-1]["zero_share_by_projection"]
        self.assertEqual(sorted(shares), sorted(f"{source}_{name}" for source in ("exc", "inh") for name in NAMES))
        for name, share in shares.items():
            part = "data" if name.startswith("exc") else "weights"
            self.assertEqual(share, np.mean(network[f"network/projections/{name}/{part}"] == 0), name)
        self.assertGreater(max(shares.values()), 0)
        events = b"".join(path.read_bytes() for path in (directory / "tensorboard").iterdir())
        for tag in ("diagnostics/rate_by_population/one", "diagnostics/zero_share_by_projection/inh_step"):
            self.assertIn(tag.encode(), events)
        self.check_page(directory, records)

    def check_page(self, directory, records):
        # A name that another program has written.
        tag = "</script><img src=x>"
        raster = json.loads((directory / "raster.json").read_text())
        raster["populations"][2]["name"] = tag
        (directory / "raster.json").write_text(json.dumps(raster))
        self.succeed("report", directory)
        page = (directory / "report.html").read_text()
        self.assertNotIn(tag, page)
        data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])
        self.assertEqual(data["raster"], raster)
        self.assertEqual([d["rate_by_population"] for d in data["diagnostics"]["lines"]],
                         [r["rate_by_population"] for r in records])
        if CHROMIUM is None:
            return
        for look in ({"width": 390, "height": 844, "phone": True, "dark": True}, {"width": 1280, "height": 900}):
            with browser.Browser(CHROMIUM, **look) as shown:
                shown.open((directory / "report.html").resolve().as_uri())
                self.assertEqual(shown.faults, [])
                self.assertLessEqual(shown.value("document.documentElement.scrollWidth"), shown.value("innerWidth"))
                legend = shown.value("[...document.querySelectorAll('#raster .legend i')].map((i) => i.textContent)")
                self.assertEqual(len(legend), len(NAMES))
                self.assertEqual(legend[:3], ["exc (neurons 0–39)", "inh (neurons 40–72)", f"{tag} (neuron 73)"])
                for chart, field in (("rates", "rate_by_population"), ("zeros", "zero_share_by_projection")):
                    last = shown.value(f"""(() => {{
                        const chart = spikefloss.charts["{chart}"], labels = chart.getLabels().slice(1);
                        const at = [...Array(chart.numRows()).keys()].filter((i) => chart.getValue(i, 1) !== null).pop();
                        return Object.fromEntries(labels.map((label, j) => [label, chart.getValue(at, j + 1)]));
                    }})()""")
                    self.assertEqual(last, {f"{name}:": value for name, value in records[-1][field].items()})

    def test_every_grid(self):
        text = config(["exc", "inh", "one"], [40, 33, 1])
        first = self.train(text, "1x1", "--set", "diagnostics.batch=3")[1]
        for grid in ("2x1", "1x2"):
            directory, records = self.train(text, grid, "--set", "diagnostics.batch=3", "--grid", grid, ranks=2)
            for field in ("rate_by_population", "zero_share_by_projection"):
                self.assertEqual([r[field] for r in records], [r[field] for r in first], (grid, field))
            self.assertEqual((directory / "raster.json").read_text(), (self.folder / "1x1/raster.json").read_text())

    def test_each_population_is_shown(self):
        directory, _ = self.train(config(["exc", "one", "inh"], [900, 1, 100]), "run", "--set", "train.steps=1",
                                  "--set", "diagnostics.every=1")
        shown = np.array(json.loads((directory / "raster.json").read_text())["shown"])
        self.assertLessEqual(len(shown), 256)
        self.assertGreater(len(shown), 250)
        self.assertTrue(np.all(np.diff(shown) > 0))
        self.assertIn(900, shown)
        self.assertAlmostEqual(np.mean(shown < 900), .9, delta=.01)

    def test_plain_networks_have_none(self):
        directory, records = self.train(program.SMALL_CONFIG, "run")
        self.assertFalse({"rate_by_population", "zero_share_by_projection"} & {key for r in records for key in r})
        self.assertNotIn("populations", json.loads((directory / "raster.json").read_text()))

    def test_a_sweep(self):
        text = config(["exc", "inh"], [20, 8]).replace("steps = 20", "steps = 3")
        self.config(text)
        sweep = self.config('base = "small.toml"\n[values]\npopulation.exc.neurons = [10, 15]\n'
                            "projection.exc_inh.in_degree = [2, 4]\n", "grid.toml")
        for number in range(4):
            self.succeed("sweep", sweep, "--run-dir", self.folder / "runs", "--run", number, "--threads", 1)
        self.succeed("collect", self.folder / "runs")
        with (self.folder / "runs/table.csv").open() as file:
            table = list(csv.DictReader(file))
        self.assertEqual([(row["population.exc.neurons"], row["projection.exc_inh.in_degree"], row["state"], row["steps"])
                          for row in table], [(n, k, "done", "3") for n in ("10", "15") for k in ("2", "4")])


program.main()
