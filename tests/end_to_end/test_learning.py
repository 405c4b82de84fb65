"""The smallest config really learns, the same on a process grid as on one rank, and leaves the records that it promises."""

import program

TINY = program.SOURCE / "configs" / "tiny.toml"


class LearningTest(program.ProgramTest):
    def test_tiny_learns_on_every_grid_alike(self):
        curves = {}
        for grid, ranks in (("1x1", None), ("2x2", 4)):
            directory = self.folder / grid
            # Sums in float64 make the curve independent of the grid (docs/parallelism.md).
            self.succeed("train", TINY, "--threads", 1, "--grid", grid, "--run-dir", directory, "--set", "run.sums=float64",
                         ranks=ranks, limit=120)
            lines = [line for line in program.read_lines(directory / "metrics.jsonl") if line["kind"] == "training"]
            self.assertLess(lines[0]["running_accuracy"], 0.7)
            self.assertGreater(lines[-1]["test_accuracy"], 0.95)
            self.assertLess(lines[-1]["loss"], 0.5 * lines[0]["loss"])
            curves[grid] = [(line["step"], line["loss"], line["accuracy"]) for line in lines]
        self.assertEqual([step for step, _, _ in curves["1x1"]], [step for step, _, _ in curves["2x2"]])
        for (step, alone, _), (_, shared, _) in zip(curves["1x1"], curves["2x2"]):
            self.assertLess(abs(alone - shared), 1e-6 * alone, f"loss at step {step}")

    def test_records(self):
        directory = self.folder / "run"
        result = self.succeed("train", TINY, "--threads", 1, "--run-dir", directory, "--set", "train.steps=100",
                              "--set", "diagnostics.every=50", "--set", "flossing.schedule=before", "--set",
                              "flossing.before=5", "--set", "flossing.exponents=4")
        self.assertNotIn("\r", result.out, "a progress bar where there is no terminal")
        self.assertIn("test accuracy", result.out)
        for name in ("config.toml", "build.txt", "log.txt", "metrics.jsonl", "diagnostics.jsonl"):
            self.assertGreater((directory / name).stat().st_size, 0, name)
        diagnoses = program.read_lines(directory / "diagnostics.jsonl")
        self.assertEqual([d["step"] for d in diagnoses], [0, 50, 100])
        for d in diagnoses:
            self.assertEqual(len(d["exponents"]), 8)
            self.assertEqual(sorted(d["exponents"][:1] + d["exponents"][-1:], reverse=True),
                             d["exponents"][:1] + d["exponents"][-1:])
            self.assertEqual(len(d["state_gradient_norm_by_lag"]), 41)  # lags 0 to 40 of 40 steps
            self.assertTrue(0.0 < d["rate"] < 1.0)
        self.assertEqual(diagnoses[-1]["gradient_norms"].keys() >= set(program.PARAMETERS), True)
        flossing = [m for m in program.read_lines(directory / "metrics.jsonl") if m["kind"] == "flossing"]
        self.assertTrue(all(len(m["exponents"]) == 4 and m["floss_loss"] >= 0.0 for m in flossing))

        # What training reported at the end is what eval finds.
        last = program.read_lines(directory / "metrics.jsonl")[-1]
        evaluated = self.succeed("eval", directory, "--threads", 1)
        self.assertIn(f"accuracy {100 * last['test_accuracy']:.2f} %", evaluated.out)
        self.assertIn(f"loss {last['test_loss']:.6f}", evaluated.out)

    def test_resolved_config_is_a_config(self):
        printed = self.succeed("train", TINY, "--print-config", "--set", "train.steps=7").out
        again = self.succeed("train", self.config(printed, "again.toml"), "--print-config").out
        self.assertEqual(printed, again)
        self.assertIn("steps = 7", printed)
        self.assertIn("is fine", self.succeed("train", TINY, "--check").out)

    def test_info(self):
        text = self.succeed("info", "--grid", "2x1", ranks=2).out
        for word in ("spikefloss", "compiler", "MPI", "HDF5", "backends", "devices", "ranks        2", "grid         2x1"):
            self.assertEqual(text.count(word) >= 1, True, f"{word}: {text}")
        self.assertEqual(text.count("backends"), 1)


if __name__ == "__main__":
    program.main()
