#!/usr/bin/env python3
"""A rehearsal of the day on a GPU machine: pack and run with executables whose device is emulated, in an environment
without MPI and HDF5, with planted faults. Every result before and after a fault must be in the folder for results.

    test_rehearsal.py BUILD_FOLDER [-v]
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
MOST_FILES, MOST_LINES = 8, 60
# Some entries of each sort: fused kernels (one needs a variable of its entry), several ranks, and a Python script.
ENTRIES = r"^(test_memory|test_state_passes|test_own_network)_emulated$|^test_device_communicators_emulated_2_ranks$"
CASES = r"gpu_planted|test_memory|RepeatedWithOtherValues|test_own_network|Communicators\.Sums/"
# The cases of planted.cpp. "Variable" needs the environment that ctest gives its entry.
PLANTED = {"Before": "ok", "Crash": "CRASHED(SIGABRT)", "Variable": "ok", "OwnFolder": "ok", "OtherFolder": "ok"}
PLANTED |= {"Between": "ok", "Failure": "FAILED(1)", "Hang": "HANG", "After": "ok"}
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
WORKLOADS = "train_40_4_30,train_2048_256_2000,no_such_workload,floss_24_6_40_1"
COMMANDS = ("alive", "numbers", "peers", "rest")

# Answers as compute-sanitizer would: clean, a launch that needs too much under the tool, and a fault.
SANITIZER = """#!/bin/sh
tool=$2
shift 4
"$@" || exit 99
case "$*" in
    *cuda_grid*)
        echo '========= Program hit cudaErrorLaunchOutOfResources: too many resources requested for launch'
        echo '========= ERROR SUMMARY: 1 error'
        exit 99 ;;
    *cuda_clusters*)
        echo '========= Invalid __global__ read of size 4 bytes'
        echo '========= ERROR SUMMARY: 1 error'
        exit 99 ;;
    *) echo "========= ERROR SUMMARY: 0 errors ($tool)" ;;
esac
"""

# Reads a carried workload as the peers do. For workloads of flossing it crashes after its first row.
PEER = """
import os, common
options = common.arguments("a stand-in")
report = common.Report(options.json, "stand-in")
for case, deadline in common.budgets(options):
    assert case.spikes().shape == (case.T, case.B, case.N)
    spikes = float(case.spikes()[1:].mean())
    row = {"median_ms": 1.0, "min_ms": 1.0, "max_ms": 1.0, "repeats": 1}
    report.add(case, "reading", lambda: row, deadline)
    if case.kind == "flossing":
        os.abort()
    report.add(case, "second row", lambda: {"rate_differs": abs(spikes - case.rate)}, deadline)
"""


def write_tool(path, text):
    path.write_text(text)
    path.chmod(0o755)


def table(path):
    """{(stage, name): (verdict, note)} of a .tsv file."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return {(stage, name): (verdict, note) for stage, name, verdict, _, note in rows}


class Rehearsal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rehearsal_"))
        cls.addClassCleanup(cls.clean)
        # Nothing but these programs is found: no mpirun, no CUDA tool, no library path.
        tools = cls.folder / "tools"
        tools.mkdir()
        (cls.folder / "tmp").mkdir()
        for name in ("python3", "ldd", "uname", "sh", "bash", "cat"):
            os.symlink(shutil.which(name, path="/usr/bin:/bin"), tools / name)
        write_tool(tools / "compute-sanitizer", SANITIZER)
        cls.environment = {
            "PATH": str(tools),
            "TMPDIR": str(cls.folder / "tmp"),
            "HOME": str(cls.folder),
            "SPIKEFLOSS_TESTS": "quick",
        }
        (cls.folder / "peer.py").write_text(PEER)
        cls.carry, cls.out = cls.folder / "carry", cls.folder / "out"
        pack = [
            ROOT / "tests/gpu/pack",
            "--emulated",
            "--planted",
            "--no-build",
            "--fast",
            "--build",
            BUILD,
            "--to",
            cls.carry,
        ]
        subprocess.run(
            [*pack, "--tests", ENTRIES, "--export", "train_40_4_30,floss_24_6_40_1"], check=True, timeout=120
        )
        began = time.monotonic()
        options = ["--total", "60", "--limit", "4", "--jobs", "2", "--cases", CASES]
        options += ["--config", "tiny.toml", "--steps", "3"]
        options += ["--peer", f"standin={cls.folder / 'peer.py'}", "--workloads"]
        # The second of these workloads does not end within its limit.
        cls.ended = [
            cls.run_script(cls.out, "alive", "numbers", "rest", *options, WORKLOADS),
            cls.run_script(cls.out, "peers", *options, "train_40_4_30,no_such_workload,floss_24_6_40_1"),
        ]
        print(f"all commands: {time.monotonic() - began:.0f} s", flush=True)
        cls.tables = {name: table(cls.out / f"{name}.tsv") for name in COMMANDS}

    @classmethod
    def clean(cls):
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/exe").startswith(str(cls.folder) + "/"):
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def start(cls, out, *arguments):
        return subprocess.Popen(
            [cls.environment["PATH"] + "/python3", cls.carry / "run", out, *arguments],
            env=cls.environment,
            cwd=cls.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @classmethod
    def run_script(cls, out, *arguments):
        process = cls.start(out, *arguments)
        try:
            text, _ = process.communicate(timeout=240)
        finally:
            process.kill()
        print(text, flush=True)
        return process.returncode, text

    def verdict(self, command, stage, name):
        self.assertIn((stage, name), self.tables[command])
        return self.tables[command][stage, name][0]

    def log(self, command):
        return "".join(path.read_text() for path in sorted(self.out.glob(f"{command}.*.log")))

    def test_the_exit_status_tells_of_the_faults(self):
        self.assertEqual([status for status, _ in self.ended], [1, 1])

    def test_the_carried_libraries_are_used(self):
        rows = {
            name: verdict
            for (stage, name), (verdict, _) in self.tables["alive"].items()
            if name.startswith("libraries of")
        }
        self.assertIn("libraries of spikefloss", rows)
        self.assertEqual(set(rows.values()), {"ok"}, rows)
        # The linker names a file for each. None of these is from this machine.
        lines = [
            line
            for line in self.log("alive").splitlines()
            if "=>" in line and any(name in line for name in ("libmpi", "libhdf5", "libopen-pal"))
        ]
        self.assertTrue(any("libhdf5" in line for line in lines) and any("libmpi" in line for line in lines), lines)
        self.assertEqual([line for line in lines if "/carry/lib/" not in line], [])
        self.assertEqual(self.verdict("alive", "smoke", "nvidia-smi"), "missing")
        self.assertEqual(self.verdict("alive", "smoke", "info"), "ok")

    def test_results_before_and_after_a_crash_and_a_hang(self):
        found = {name: self.verdict("alive", "case", f"gpu_planted:Planted.{name}") for name in PLANTED}
        self.assertEqual(found, PLANTED)
        for text in ("output before the crash", "output before the hang"):
            self.assertIn(text, self.log("alive"))
        others = {
            name: verdict
            for (stage, name), (verdict, _) in self.tables["alive"].items()
            if stage == "case" and "planted" not in name
        }
        self.assertEqual(set(others.values()), {"ok"}, others)
        self.assertTrue(any("RepeatedWithOtherValues/cuda_float32" in name for name in others), others)
        again = [row for row in self.tables["alive"] if row[0] == "repeated"]
        self.assertEqual(len(again), 6, "three faults, each alone and under the sanitizer")

    def test_what_the_sanitizer_reports(self):
        prefix = "memcheck test_state_passes_emulated:"
        prefix += "Backends/StatePassesTest.RepeatedWithOtherValues/"
        found = {
            kind: self.verdict("alive", "sanitizer", prefix + kind)
            for kind in ("cuda_float32", "cuda_clusters", "cuda_grid", "cuda_stepwise")
        }
        self.assertEqual(
            found, {"cuda_float32": "ok", "cuda_clusters": "NOT_CLEAN", "cuda_grid": "resources", "cuda_stepwise": "ok"}
        )
        kinds = [name.split()[0] for stage, name in self.tables["rest"] if stage == "sanitizer"]
        self.assertEqual(set(kinds), {"racecheck", "initcheck", "synccheck"})

    def test_every_workload_that_can_run_has_its_numbers(self):
        verdicts = [
            self.verdict("numbers", "bench", name)
            for name in ("limits", "train_40_4_30", "train_2048_256_2000", "no_such_workload", "floss_24_6_40_1")
        ]
        self.assertEqual(verdicts, ["ok", "ok", "HANG", "FAILED(2)", "ok"])
        verdict, note = self.tables["numbers"]["bench", "train_40_4_30 without tiles"]
        self.assertEqual(verdict, "FAILED(2)", "the CPU backend, which stands in here, has no tiles")
        self.assertIn("--without", note)
        bench = json.loads((self.out / "bench.json").read_text())
        self.assertEqual([row["name"] for row in bench["rows"]], ["train_40_4_30", "floss_24_6_40_1"])
        self.assertGreater(bench["limits"]["copy_GB_per_s"], 0.0)
        for row in bench["rows"]:
            self.assertGreater(row["bounds"]["share"], 0.0, "the limits of the first process are used")

    def test_scripts_ranks_and_training(self):
        for stage in ("script", "ranks"):
            rows = {name: found for (row_stage, name), found in self.tables["numbers"].items() if row_stage == stage}
            self.assertTrue(rows, stage)
            self.assertEqual({verdict for verdict, _ in rows.values()}, {"ok"}, rows)
        verdict, note = self.tables["numbers"]["training", "tiny.toml"]
        self.assertEqual(verdict, "ok", note)
        self.assertIn("steps a second, step 3", note)

    def test_peers_use_the_carried_workloads(self):
        self.assertEqual(self.verdict("peers", "peer", "standin train_40_4_30"), "ok")
        self.assertEqual(self.verdict("peers", "peer", "standin floss_24_6_40_1"), "CRASHED(SIGABRT)")
        self.assertNotIn(("export", "train_40_4_30"), self.tables["peers"])
        rows = json.loads((self.out / "standin.json").read_text())["rows"]
        self.assertEqual(
            [(row["name"], row["peer"]) for row in rows],
            [("train_40_4_30", "reading"), ("train_40_4_30", "second row"), ("floss_24_6_40_1", "reading")],
        )
        self.assertLess(rows[1]["rate_differs"], 0.02)

    def test_names_of_workloads(self):
        def bench(*arguments):
            return subprocess.run(
                [BUILD / "bench/bench_gpu", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                env={**os.environ, **AS_ROOT},
            )

        names = bench("--list").stdout.split()
        self.assertEqual((names[0], names[-1], len(names)), ("train_80_16_300", "train_16384_64_100", 6))
        for name in ("train_0_4_30", "train_40_4", "floss_24_6_40", "other_1_2_3"):
            refused = bench("--backend", "cpu", "--limits", "none", "--only", name)
            self.assertEqual(refused.returncode, 2, refused.stdout)
            self.assertIn(f"there is no workload {name}", refused.stdout)
        given = bench("--backend", "cpu", "--limits", "none", "--only", "train_10_2_5,floss_8_2_10_1")
        self.assertEqual(given.returncode, 0, given.stdout)
        self.assertRegex(given.stdout, r"(?m)^train_10_2_5 .*\n^floss_8_2_10_1 ")

    def test_few_files_and_short_summaries(self):
        for command in COMMANDS:
            own = [path.name for path in self.out.iterdir() if path.name.startswith(command)]
            others = [path.name for path in self.out.glob("*.json")] if command in ("numbers", "peers") else []
            self.assertLessEqual(len(own) + len(others), MOST_FILES, own + others)
            self.assertNotIn("part.json", others)
            lines = (self.out / f"{command}_summary.txt").read_text().splitlines()
            self.assertLessEqual(len(lines), MOST_LINES)
            self.assertIn(lines[-1], "".join(text for _, text in self.ended))

    def test_a_killed_script_leaves_what_came_before(self):
        out = self.folder / "killed"
        process = self.start(
            out, "alive", "--stages", "cases", "--cases", "gpu_planted", "--jobs", "1", "--limit", "60"
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                logs = "".join(path.read_text() for path in out.glob("alive.*.log")) if out.exists() else ""
                if "output before the hang" in logs:
                    break
                time.sleep(0.1)
        finally:
            process.kill()
            process.communicate()
        found = {
            name.split(".")[-1]: verdict
            for (stage, name), (verdict, _) in table(out / "alive.tsv").items()
            if stage == "case"
        }
        self.assertEqual(found, {name: verdict for name, verdict in PLANTED.items() if name not in ("Hang", "After")})
        self.assertIn("output before the hang", logs)


if __name__ == "__main__":
    unittest.main()
