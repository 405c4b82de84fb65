"""launch/reproduce knows every figure of docs/results and every sweep behind it, and does the steps in order."""
import re
import subprocess
import sys

import program

SOURCE = program.SOURCE


class ReproduceTest(program.ProgramTest):
    def reproduce(self, *arguments, root=SOURCE):
        return subprocess.run([sys.executable, str(root / "launch" / "reproduce"), *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    def test_every_figure_is_listed_once(self):
        done = self.reproduce()
        self.assertEqual(done.returncode, 0, done.stderr)
        listed = re.findall(r"^  (\w+) +\d+ minutes", done.stdout, re.M)
        figures = set(re.findall(r'"(\w+)": \(\w+_rows, draw_', (SOURCE / "docs/results/figures").read_text()))
        self.assertEqual(sorted(listed), sorted(figures))
        pages = "".join(path.read_text() for path in (SOURCE / "docs").glob("results*/*.md"))
        pages += (SOURCE / "docs/results.md").read_text()
        for name in listed:
            self.assertTrue((SOURCE / "docs/results" / f"{name}.csv").exists(), name)
            self.assertRegex(pages, rf"\b{name}\.svg|launch/reproduce {name}\b")

    def test_every_sweep_exists(self):
        for name in re.findall(r"^  (\w+) +\d+ minutes", self.reproduce().stdout, re.M):
            done = self.reproduce(name, "--dry-run")
            self.assertEqual(done.returncode, 0, done.stderr)
            for config in re.findall(r"\S+\.toml", done.stdout):
                self.assertTrue((SOURCE / config).is_file(), config)
            sweeps = "configs/experiments" in done.stdout
            self.assertRegex(done.stdout.splitlines()[-1], rf"^docs/results/figures {name}" + (" runs/" if sweeps or name == "scale" else "$"))
            if not sweeps and name != "scale":  # a script of its own measures
                self.assertTrue((SOURCE / done.stdout.splitlines()[0]).is_file(), name)

    def test_unknown_figures(self):
        done = self.reproduce("prediktion")
        self.assertEqual(done.returncode, program.USAGE)
        self.assertIn("docs/results.md has no figure 'prediktion'", done.stderr)
        self.assertIn("what to do: choose one of these", done.stderr)

    def test_steps_in_order_until_one_fails(self):
        # A repository whose steps only say that they ran.
        root = self.folder / "clone"
        (root / "launch").mkdir(parents=True)
        (root / "launch" / "reproduce").write_text((SOURCE / "launch/reproduce").read_text())
        for step, code in (("launch/sweep", 3), ("build/cpu-release/spikefloss", 0), ("docs/results/figures", 0)):
            path = root / step
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'#!{sys.executable}\nimport sys\nprint("ran", *sys.argv[1:], flush=True)\nsys.exit({code})\n')
            path.chmod(0o755)
        for module in ("numpy", "scipy", "matplotlib"):
            (root / "launch" / f"{module}.py").write_text("")
        done = self.reproduce("slow_modes", "--jobs", "2", root=root)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line for line in done.stdout.splitlines() if line.startswith("ran")],
                         ["ran configs/experiments/slow_modes.toml --jobs 2", "ran collect runs/slow_modes --overwrite",
                          "ran slow_modes runs/slow_modes"])
        (root / "launch/sweep").write_text(f"#!{sys.executable}\nimport sys\nsys.exit(85)\n")
        done = self.reproduce("slow_modes", root=root)
        self.assertEqual(done.returncode, 85)
        self.assertIn("the same command continues", done.stderr)
        self.assertNotIn("ran", done.stdout)


if __name__ == "__main__":
    program.main()
