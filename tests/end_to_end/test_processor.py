"""On a processor without the instructions that the program was built for, the program reports this and does not end
with SIGILL. On a processor that OpenBLAS does not know, the program still uses the kernels that fit it.
"""
import os
import shutil
import subprocess

import program


class ProcessorTest(program.ProgramTest):
    def info_on(self, processor):
        environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        return subprocess.run(["qemu-x86_64", "-cpu", processor, program.PROGRAM, "info"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, env=environment)

    def test_old_processor_is_told(self):
        done = self.info_on("Nehalem")
        self.assertEqual(done.returncode, program.USAGE, done.stderr)
        self.assertIn("spikefloss: error: this build needs a processor with AVX2", done.stderr)
        self.assertIn("what to do: build it with", done.stderr)

    def test_newer_processor_is_not(self):
        done = self.info_on("max")
        self.assertNotIn("AVX2", done.stderr)
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)

    def test_unknown_processor_has_kernels_that_fit(self):
        # A model number that does not exist. The program that it starts again runs on the real processor. But its
        # choice is for the emulated processor, which has AVX2 and no AVX-512.
        done = self.info_on("Haswell,family=6,model=250")
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)
        self.assertRegex(done.stdout, r"BLAS +OpenBLAS .* Haswell ")

    def test_kernels_that_were_asked_for_are_kept(self):
        done = program.run("info", env={**os.environ, "OPENBLAS_CORETYPE": "Prescott"})
        self.assertRegex(done.out, r"BLAS +OpenBLAS .* Prescott ", str(done))


if __name__ == "__main__":
    if shutil.which("qemu-x86_64") is None:
        program.skip("no qemu-x86_64 (package qemu-user), which pretends to be other processors")
    program.main()
