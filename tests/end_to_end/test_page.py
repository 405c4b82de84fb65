"""The page of a run in a real browser, as a file and live: it shows the numbers of the records, on a phone and in dark
mode, with few records, many, and none of some kind. It fetches nothing and has no errors.
"""
import json
import os
import re

import browser
import program
import test_live

CHROMIUM = browser.find()
PHONE = {"width": 390, "height": 844, "phone": True, "dark": True}
DESKTOP = {"width": 1280, "height": 900}

FLOSSING = ["--set", 'flossing.schedule=["before", "every"]', "--set", "flossing.before=6", "--set", "flossing.every=4",
            "--set", "flossing.exponents=3", "--set", "flossing.warmup=2", "--set", "train.test_every=7"]


def rows(page, chart):
    """The data of a chart, without the rows that only widen the axis."""
    found = page.value(f"""(() => {{
        const chart = spikefloss.charts["{chart}"], rows = [];
        for (let i = 0; i < chart.numRows(); ++i)
            rows.push([...Array(chart.numColumns()).keys()].map((j) => chart.getValue(i, j)));
        return rows;
    }})()""")
    return [row for row in found if any(value is not None for value in row[1:])]


def positions(records):
    """step + floss_step: in these runs flossing steps are separate steps."""
    return [r["step"] + r["floss_step"] for r in records]


def check_layout(test, page):
    """Nothing extends beyond the page. Every picture fits in its card and nearly fills it."""
    test.assertLessEqual(page.value("document.documentElement.scrollWidth"), page.value("innerWidth"))
    widths = page.value("""[...document.querySelectorAll(".chart canvas")].map((canvas) =>
        [canvas.getBoundingClientRect().width, canvas.closest(".chart").getBoundingClientRect().width])""")
    test.assertGreater(len(widths), 8)
    for canvas, place in widths:
        test.assertAlmostEqual(canvas, place, delta=2)


class PageTest(program.ProgramTest):
    def train(self, *arguments):
        directory = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", directory, *arguments)
        return directory

    def report(self, directory):
        self.succeed("report", directory)
        return (directory / "report.html").resolve().as_uri()

    def check_page(self, page, address):
        """Checks that hold for every page."""
        self.assertEqual(page.faults, [])
        self.assertEqual(page.requests, [address])
        check_layout(self, page)

    def check_values(self, page, directory):
        metrics = program.read_lines(directory / "metrics.jsonl")
        training = [m for m in metrics if m["kind"] == "training"]
        flossing = [m for m in metrics if m["kind"] == "flossing"]
        diagnostics = program.read_lines(directory / "diagnostics.jsonl")
        self.assertGreater(min(map(len, (training, flossing, diagnostics))), 3)
        expected = {
            "loss": [[x, m["loss"], m.get("test_loss")] for x, m in zip(positions(training), training)],
            "accuracy": [[x, m["accuracy"], m["running_accuracy"], m.get("test_accuracy")]
                         for x, m in zip(positions(training), training)],
            "exponents": [[x, *d["exponents"]] for x, d in zip(positions(diagnostics), diagnostics)],
            "flossed": [[x, *m["exponents"]] for x, m in zip(positions(flossing), flossing)],
            "spectrum": [[j + 1, value] for j, value in enumerate(diagnostics[-1]["exponents"])],
            "gradient": [[x, m["gradient_norm"]] for x, m in zip(positions(metrics), metrics)],
            "rate": [[x, m["rate"]] for x, m in zip(positions(metrics), metrics)],
            "speed": [[x, m["sequences_per_second"]] for x, m in zip(positions(metrics), metrics)]}
        for chart, values in expected.items():
            self.assertEqual(rows(page, chart), values, chart)
        lags = rows(page, "lags")
        for column in (1, -1):  # the first record and the newest
            norms = diagnostics[0 if column == 1 else -1]["state_gradient_norm_by_lag"]
            self.assertEqual([row[column] for row in lags], [norm if norm > 0 else None for norm in norms])
        # The numbers at the top are rounded.
        self.assertEqual(self.tile(page, "step"), f"{training[-1]['step']} / {training[-1]['step']}")
        self.assertAlmostEqual(float(self.tile(page, "loss")), training[-1]["loss"], delta=1e-3)
        self.assertAlmostEqual(float(self.tile(page, "lambda")), diagnostics[-1]["exponents"][0], delta=1e-3)
        tests = [m for m in training if "test_accuracy" in m]
        self.assertEqual(self.tile(page, "test"), f"{100 * tests[-1]['test_accuracy']:.1f} %")

    def check_raster(self, page, directory):
        raster = json.loads((directory / "raster.json").read_text())
        last = program.read_lines(directory / "diagnostics.jsonl")[-1]
        spikes = sum(map(len, raster["spikes"]))
        self.assertAlmostEqual(spikes / (raster["neurons"] * raster["steps"]), last["rate"], delta=1e-9)
        self.assertIn(f"{spikes} spikes", page.value("document.querySelector('#raster .legend').textContent"))
        # Every spike is drawn, and places without a spike stay bright.
        drawn = page.value("""(() => {
            const canvas = document.querySelector("#raster canvas"), left = 34, h = canvas.clientHeight - 24;
            const w = canvas.clientWidth - left - 6, run = spikefloss.run.raster;
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return run.spikes.map((_, i) => [...Array(run.steps).keys()].map((t) => {
                const dot = Math.max(1, Math.min(3, w / run.steps));
                const x = Math.floor(left + (w - dot) * (t + 1) / run.steps + dot / 2);
                const y = Math.floor(5 + (h - 2) * (i + .5) / run.spikes.length);
                return pixels[4 * (y * canvas.width + x) + 3] > 100;
            }));
        })()""")
        expected = [[t + 1 in steps for t in range(raster["steps"])] for steps in raster["spikes"]]
        self.assertEqual(drawn, expected)
        self.assertGreater(spikes, 0)

    def tile(self, page, name):
        return page.value(f"document.querySelector('#number-{name} b').textContent")

    def test_values_are_those_of_the_records(self):
        directory = self.train(*FLOSSING)
        address = self.report(directory)
        for look in (PHONE, DESKTOP):
            with self.subTest(**look), browser.Browser(CHROMIUM, **look) as page:
                page.open(address)
                self.check_values(page, directory)
                self.check_raster(page, directory)
                self.check_page(page, address)
                ground = page.value("getComputedStyle(document.body).backgroundColor")
                brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
                self.assertEqual(brightness < 60, look.get("dark", False), ground)
                self.assertIn("neurons = 10", page.value("document.querySelector('#settings').textContent"))
                self.assertIn("1 rank, grid 1x1", page.value("document.querySelector('#ranks').textContent"))

    def test_half_finished_and_without_diagnostics(self):
        directory = self.train("--set", "diagnostics.every=0")
        records = directory / "metrics.jsonl"
        lines = records.read_text().splitlines()
        # A file after a crash, cut off in the middle of a line; and a log that contains a script.
        records.write_text("\n".join(lines[:12]) + "\n" + lines[12][:40])
        (directory / "log.txt").write_text("</script><script>console.error('from the log')</script> <b>bold</b>\n")
        (directory / "session.json").unlink()
        address = self.report(directory)
        with browser.Browser(CHROMIUM, **PHONE) as page:
            page.open(address)
            self.check_page(page, address)
            self.assertEqual(len(rows(page, "loss")), 12)
            self.assertEqual(page.value("document.querySelector('#state').textContent"), "step 12 of 20 at the last record")
            self.assertIn("diagnostics.every is 0", page.value("document.querySelector('#lags').textContent"))
            self.assertIn("<b>bold</b>", page.value("document.querySelector('#log pre').textContent"))

    def test_what_would_like_to_be_a_script(self):
        """Tags in names, log and records are shown as text or left out. The rest of the page is complete."""
        tag = "<img src=x onerror=\"document.title='RAN'\"><script>document.title='RAN'</script>"
        directory = self.folder / tag.replace("/", "%")
        self.succeed("train", self.config(), "--run-dir", directory)
        (directory / "log.txt").write_text(tag + "\n")
        session = json.loads((directory / "session.json").read_text())
        session.update(backend=tag, warning=tag, ranks=[{"host": tag, "device": "</script>" + tag}])
        (directory / "session.json").write_text(json.dumps(session))
        good = {}
        for name in ("metrics", "diagnostics"):
            path = directory / f"{name}.jsonl"
            good[name] = program.read_lines(path)
            with path.open("a") as file:
                for field in good[name][-1]:
                    for value in (tag, [tag], {tag: tag}):
                        file.write(json.dumps({**good[name][-1], field: value}) + "\n")
                file.write(f"{{broken {tag}\n")
        address = self.report(directory)
        with browser.Browser(CHROMIUM, **DESKTOP) as page:
            page.open(address)
            self.check_page(page, address)
            self.assertEqual(page.value("document.title"), f"{directory.name} – spikefloss")
            self.assertEqual(page.value("document.querySelector('#name').textContent"), directory.name)
            self.assertEqual(page.value("document.querySelectorAll('img').length"), 0)
            self.assertEqual(page.value("document.querySelector('#log pre').textContent"), tag)
            self.assertIn(tag, page.value("document.querySelector('#ranks').textContent"))
            self.assertRegex(page.value("document.querySelector('#damage').textContent"),
                             r"^damaged and left out: \d+ lines of metrics.jsonl, \d+ lines of diagnostics.jsonl\.$")
            self.assertEqual(len(rows(page, "loss")), len(good["metrics"]))
            self.assertEqual(len(rows(page, "exponents")), len(good["diagnostics"]))
            # If a script gets in by an unknown way, the policy of the page does not let it run.
            page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
            page.value("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=1'}))")
            page.value("new Promise((done) => setTimeout(done, 100))")
            self.assertEqual(page.value("document.title"), f"{directory.name} – spikefloss")
            self.assertGreater(len(page.faults), 1)  # the browser reports the scripts that it did not run

    def test_ten_thousand_points_and_more(self):
        directory = self.train()
        records = directory / "metrics.jsonl"
        line = program.read_lines(records)[-1]
        with records.open("w") as file:
            for step in range(1, 10001):
                file.write(json.dumps({**line, "step": step, "loss": 1 / step}) + "\n")
        address = self.report(directory)
        with browser.Browser(CHROMIUM, **PHONE) as page:
            page.open(address)
            self.check_page(page, address)
            self.assertEqual([row[1] for row in rows(page, "loss")], [1 / step for step in range(1, 10001)])
        # Beyond 20 000 lines every second one is left out, and so on, but never the newest.
        with records.open("a") as file:
            for step in range(10001, 50001):
                file.write(json.dumps({**line, "step": step, "loss": 1 / step}) + "\n")
        address = self.report(directory)
        with browser.Browser(CHROMIUM, **DESKTOP) as page:
            page.open(address)
            self.check_page(page, address)
            self.assertEqual([row[1] for row in rows(page, "loss")], [1 / step for step in [*range(1, 50001, 4), 50000]])


class LivePageTest(test_live.ServedTest):
    def test_it_follows_the_run(self):
        for look, token in ((PHONE, ""), (DESKTOP, test_live.TOKEN)):
            with self.subTest(**look), browser.Browser(CHROMIUM, **look) as page:
                process = self.start(**({"env": dict(os.environ, SPIKEFLOSS_TOKEN=token)} if token else {}))
                address = f"http://127.0.0.1:{self.port}/" + (f"?token={token}" if token else "")
                page.open(address)
                self.assertEqual(page.value("document.querySelector('#state').textContent"), "running")
                # At least two times more records than at first, by /data.
                first = page.value("spikefloss.run.metrics.lines.length")
                page.wait_for(f"spikefloss.run.metrics.lines.length > {first} + 1")
                first = page.value("spikefloss.run.metrics.lines.length")
                page.wait_for(f"spikefloss.run.metrics.lines.length > {first} + 1")
                self.assertEqual(page.faults, [])
                self.assertTrue(all(url.startswith(f"http://127.0.0.1:{self.port}/") for url in page.requests))
                check_layout(self, page)
                self.assertRegex(page.value("document.querySelector('#number-left').textContent"), r"\d.*time left")
                self.stop(process)
                page.wait_for("document.querySelector('#state').className === 'lost'")
                # The screen still shows the records of the run.
                training = [m for m in program.read_lines(self.directory / "metrics.jsonl") if m["kind"] == "training"]
                shown = rows(page, "loss")
                self.assertGreater(len(shown), 3)
                self.assertEqual(shown, [[m["step"], m["loss"], m.get("test_loss")] for m in training][:len(shown)])
                diagnostics = program.read_lines(self.directory / "diagnostics.jsonl")
                shown = rows(page, "exponents")
                self.assertEqual(shown, [[d["step"], *d["exponents"]] for d in diagnostics][:len(shown)])
                self.assertIn([[j + 1, value] for j, value in enumerate(diagnostics[len(shown) - 1]["exponents"])],
                              [rows(page, "spectrum")])
                self.directory.rename(self.folder / f"done_{look['width']}")


if __name__ == "__main__":
    if CHROMIUM is None:
        program.skip("no Chromium that starts was found (package chromium)")
    program.main()
