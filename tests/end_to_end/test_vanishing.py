"""Gradients that vanish over thousands of steps become 0. Numbers below the normal ones would make each step many times slower."""
import program

SMALLEST_NORMAL = 2.0**-126


class VanishingTest(program.ProgramTest):
    def test_gradients_become_zero_not_denormal(self):
        for sums in ("float32", "float64"):
            with self.subTest(sums=sums):
                directory = self.folder / sums
                self.succeed("train", program.SOURCE / "configs/cue_recall.toml", "--run-dir", directory, "--threads", 2,
                             "--set", "task.delay=2000.0", "--set", "train.steps=1", "--set", "flossing.schedule=[]",
                             "--set", "network.neurons=16", "--set", "train.batch=2", "--set", "diagnostics.every=1",
                             "--set", "diagnostics.batch=2", "--set", f"run.sums='{sums}'", "--set", "train.test_batches=1")
                norms = program.read_lines(directory / "diagnostics.jsonl")[0]["state_gradient_norm_by_lag"]
                self.assertEqual(norms[-1], 0.0)
                self.assertGreater(norms[0], 1e-6)
                self.assertEqual([norm for norm in norms if 0.0 < norm < SMALLEST_NORMAL], [])


if __name__ == "__main__":
    program.main()
