"""The program on Arm (arm64): it is compiled with Debian's cross compiler against Debian's packages for Arm, and runs in
qemu-aarch64. The kernels round as on x86-64, so that networks with dyadic weights give the same bits on both. Takes
some minutes; skipped, with a message, where the compiler, the emulator or the packages cannot be had.
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np

import program

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ["SPIKEFLOSS_BUILD"]) / "arm64"
PROGRAM = BUILD / "spikefloss"  # starts the program in the emulator, also under mpirun
TESTS = {"test_operations_sums": "*cpu_3_threads_float32*", "test_operations_sparse": "*", "test_cpu_basis": "*"}


def build():
    """Builds the program and the tests of kernels for Arm. Returns why it cannot be done, or None."""
    for name, package in (("qemu-aarch64", "qemu-user"), ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
                          ("apt-get", "apt")):
        if shutil.which(name) is None:
            return f"there is no {name} (package {package})"
    fetched = subprocess.run([HERE / "root", BUILD / "packages"], capture_output=True, text=True)
    if fetched.returncode:
        return f"the packages for Arm cannot be had: {fetched.stderr.strip().splitlines()[-1:]}"
    subprocess.run(["cmake", "-S", program.SOURCE, "-B", BUILD / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    "-DSPIKEFLOSS_CUDA=OFF", "-DSPIKEFLOSS_BENCH=OFF", f"-DSPIKEFLOSS_ARM64={BUILD / 'packages'}",
                    f"-DCMAKE_TOOLCHAIN_FILE={HERE / 'toolchain.cmake'}"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", BUILD / "build", "-t", "spikefloss", *TESTS], check=True,
                   stdout=subprocess.DEVNULL)
    PROGRAM.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, emulated("spikefloss")))} "$@"\n')
    PROGRAM.chmod(0o755)
    return None


def emulated(executable):
    root = BUILD / "packages" / "root"
    libraries = root / "usr/lib/aarch64-linux-gnu"
    paths = f"{libraries / 'openblas-pthread'}:{libraries / 'openmpi/lib'}"
    return ["qemu-aarch64", "-L", root, "-E", f"LD_LIBRARY_PATH={paths}", BUILD / "build" / executable]


class Arm64Test(program.ProgramTest):
    def on_arm(self, *arguments):
        done = subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=600)
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)
        return done.stdout

    def test_info(self):
        self.assertRegex(self.on_arm("info"), "BLAS +OpenBLAS .*armv8")

    def test_kernels(self):
        for name, which in TESTS.items():
            done = subprocess.run([*emulated(f"tests/{name}"), f"--gtest_filter={which}"], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=1200,
                                  env={**os.environ, "SPIKEFLOSS_TESTS": "quick"})
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr)
            self.assertRegex(done.stdout, r"PASSED  \] [1-9]", name)

    def test_worked_cases(self):
        """The tests of the command line, on one rank and on grids, by the program for Arm."""
        golden = program.SOURCE / "tests" / "end_to_end" / "test_golden.py"
        done = subprocess.run([sys.executable, golden], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=1200, env={**os.environ, "SPIKEFLOSS": str(PROGRAM), "SPIKEFLOSS_TESTS": "quick"})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_same_bits(self):
        """With dyadic weights every sum is exact, so the gradients are those of this processor in every bit."""
        case, here, there = program.DATA / "dyadic_weights.h5", self.folder / "here.h5", self.folder / "there.h5"
        arguments = "gradients", "--network", case, "--input", case, "--penalty", "task", "--sums", "float64"
        self.succeed(*arguments, "--output", here)
        self.on_arm(*arguments, "--output", there)
        here, there = program.read_file(here), program.read_file(there)
        for name in program.PARAMETERS:
            self.assertTrue(np.any(here[name]), name)
            np.testing.assert_array_equal(here[name], there[name], name)

    def test_training(self):
        config, losses = self.config(), []
        for name, train in (("here", self.succeed), ("there", self.on_arm)):
            train("train", config, "--run-dir", self.folder / name, "--threads", 2)
            records = program.read_lines(self.folder / name / "metrics.jsonl")
            losses.append([record["loss"] for record in records if record["kind"] == "training"])
        self.assertEqual(len(losses[0]), 20)
        np.testing.assert_allclose(*losses, rtol=1e-4)


if __name__ == "__main__":
    missing = build()
    if missing:
        program.skip(missing)
    program.main()
