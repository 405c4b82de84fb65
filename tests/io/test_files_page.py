"""Runs the Python examples of docs/files.md unchanged, and the commands that the page names between them."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.environ["SPIKEFLOSS"]
PAGE = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"]) / "docs" / "files.md"


class FilesPage(unittest.TestCase):
    def test_examples(self):
        examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        self.assertEqual(len(examples), 3)
        commands = re.findall(r"`spikefloss (spectrum --[^`]*)`", PAGE.read_text())
        self.assertEqual(len(commands), 1)
        with tempfile.TemporaryDirectory() as folder:
            def run(command):
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                return done.stdout

            run([sys.executable, "-c", examples[0]])
            launch = [os.environ["MPIEXEC"], "-n", "2", PROGRAM]
            run(launch + commands[0].split() + ["--grid", "2x1"])
            printed = run([sys.executable, "-c", examples[1]])
            self.assertRegex(printed, r"^\[.*\d")
            run([sys.executable, "-c", examples[2]])
            # Text attributes arrive as str, numbers as numbers, and the recipe detects a changed value.
            run([sys.executable, "-c", """
import h5py
with h5py.File("spectrum.h5") as file:
    assert file.attrs["jacobian_reset"] == "detached"
    assert file.attrs["exponents"] == 8
    assert file["lambda_per_sequence"].shape == (8, 8)
    assert file["log_r"].shape[1:] == (8, 8)
"""])
            changed = examples[2].replace('checksum(file["lambda"][:])', 'checksum(file["lambda"][:] + 1e-15)')
            self.assertNotEqual(changed, examples[2])
            with self.assertRaises(AssertionError):
                run([sys.executable, "-c", changed])

    def test_the_page_of_populations(self):
        page = PAGE.with_name("populations.md").read_text()
        with tempfile.TemporaryDirectory() as folder:
            for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
                subprocess.run([sys.executable, "-c", example], cwd=folder, check=True, timeout=120)
            config, from_file = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
            drawn = re.search(r'\[\[projection\]\]\nsource = "exc"\ntarget = "inh"\n.*?\n\n', config, re.DOTALL)[0]
            for text in config, config.replace(drawn, from_file + "\n"):
                pathlib.Path(folder, "example.toml").write_text(text)
                done = subprocess.run([PROGRAM, "train", "--check", "example.toml"], cwd=folder, capture_output=True,
                                      text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("warning", done.stdout + done.stderr)
            commands = re.findall(r"`spikefloss (spectrum --[^`]*)`", page)
            self.assertEqual(len(commands), 1)
            done = subprocess.run([PROGRAM, *commands[0].split()], cwd=folder, capture_output=True, text=True,
                                  timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("lambda_j", done.stdout)

    def test_gradients_have_the_names_of_the_page(self):
        with tempfile.TemporaryDirectory() as folder:
            example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
            subprocess.run([sys.executable, "-c", example], cwd=folder, check=True, timeout=120)
            done = subprocess.run([PROGRAM, "gradients", "--network", "mine.h5", "--input", "mine.h5", "--penalty", "task",
                                   "--output", "gradients.h5"], cwd=folder, capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            check = """
import h5py
with h5py.File("gradients.h5") as file:
    assert file["w_rec"].shape == (64, 64) and file["w_out"].shape == (1, 64)
    assert file["loss"].shape == () and file["state_gradient_norm"].shape == (101,)
    assert file.attrs["penalty"] == "task"
"""
            done = subprocess.run([sys.executable, "-c", check], cwd=folder, capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
