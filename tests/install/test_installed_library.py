"""The installed library: programs outside the tree find, link and use it. One is the program of docs/cpp.md, whose
numbers are those of the program spikefloss. The other links no HDF5 and makes a fault.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import program

BUILD = Path(program.PROGRAM).parent
HERE = Path(__file__).parent


def call(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


class InstalledLibraryTest(program.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.prefix = BUILD / "installed" / "prefix"
        shutil.rmtree(cls.prefix, ignore_errors=True)
        done = call("cmake", "--install", BUILD, "--prefix", cls.prefix)
        assert done.returncode == 0, done.stdout + done.stderr

    def configure(self, source, **options):
        shutil.rmtree(self.folder / "build", ignore_errors=True)
        return call("cmake", "-G", "Ninja", "-S", source, "-B", self.folder / "build",
                    f"-DCMAKE_PREFIX_PATH={self.prefix}", **options)

    def build(self, source):
        """Builds the folder, and returns the folder of its programs."""
        for done in (self.configure(source), call("cmake", "--build", self.folder / "build")):
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.folder / "build"

    def test_program_of_the_page(self):
        blocks = dict(re.findall(r"```(cmake|cpp)\n(.*?)```", (program.SOURCE / "docs/cpp.md").read_text(), re.DOTALL))
        (self.folder / "CMakeLists.txt").write_text(blocks["cmake"])
        (self.folder / "mine.cpp").write_text(blocks["cpp"])
        done = call(self.build(self.folder) / "mine", cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        exponents = [float(word) for word in done.stdout.split()]
        self.assertEqual(len(exponents), 4)
        with h5py.File(self.folder / "input.h5", "w") as file:
            file["sequences/x"] = (np.arange(50 * 2 * 3) % 4 == 0).astype("float32").reshape(50, 2, 3)
        self.succeed("spectrum", "--network", self.folder / "mine.h5", "--input", self.folder / "input.h5",
                     "--exponents", 4, "--output", self.folder / "spectrum.h5")
        self.assertEqual(exponents, list(program.read_file(self.folder / "spectrum.h5")["lambda"]))

    def test_without_files(self):
        arrays = self.build(HERE) / "arrays"
        self.assertNotIn("hdf5", call("ldd", arrays).stdout)
        done = call(arrays)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        numbers, fault, advice, mpi_runs = done.stdout.splitlines()
        file = self.folder / "neuron.h5"
        program.write_network(file, w_in=[[1.0]], w_rec=[[1.0]], bias=[0.0], alpha=[0.5], beta=[0.5], w_out=[[1.0]],
                              bias_out=[0.0], kappa=[0.0], x=[[[1.0]], [[1.0]], [[0.0]], [[1.0]]],
                              target=[[[0.0]], [[0.0]], [[0.0]], [[1.0]]])
        self.succeed("gradients", "--penalty", "task", "--network", file, "--input", file, "--output",
                     self.folder / "gradients.h5")
        expected = program.read_file(self.folder / "gradients.h5")
        self.assertEqual(float(numbers.split()[0]), expected["loss"])
        self.assertEqual(np.float32(numbers.split()[1]), expected["w_in"][0, 0])
        self.assertRegex(fault, r"^2 .*1000")
        self.assertRegex(advice, "^  what to do: ")
        self.assertEqual(mpi_runs, "0")

    def test_what_is_missing(self):
        without_blas = self.configure(HERE, env={**os.environ, "PKG_CONFIG_LIBDIR": "/nowhere"})
        lists = self.folder / "CMakeLists.txt"
        lists.write_text((HERE / "CMakeLists.txt").read_text().replace("spikefloss REQUIRED", "spikefloss 99 REQUIRED"))
        other_version = self.configure(self.folder)
        lists.write_text(lists.read_text().replace("99 REQUIRED", "REQUIRED COMPONENTS gpu"))
        other_part = self.configure(self.folder)
        for done, problem in ((without_blas, "packages libopenblas-dev, liblapacke-dev"),
                              (other_version, 'requested version "99"'), (other_part, "no component gpu")):
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(problem, " ".join(done.stderr.split()))


if __name__ == "__main__":
    program.main()
