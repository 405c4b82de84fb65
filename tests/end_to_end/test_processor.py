"""The program runs on every x86-64 processor, with the newest kernels that the processor has. If OpenBLAS does not know
the processor, the program still uses those kernels of OpenBLAS that fit it.
"""
import os
import shutil
import subprocess

import program


class ProcessorTest(program.ProgramTest):
    def run_on(self, processor, *arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        return subprocess.run(["qemu-x86_64", "-cpu", processor, program.PROGRAM, *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=240, env={**kept, **environment})

    def info_on(self, processor, **environment):
        return self.run_on(processor, "info", **environment)

    def test_newest_kernels_that_the_processor_has(self):
        for processor, kernels in (("Nehalem", "x86-64"), ("qemu64", "x86-64"), ("max", "x86-64-v3")):
            done = self.info_on(processor)
            self.assertEqual(done.returncode, program.SUCCESS, done.stderr)
            self.assertRegex(done.stdout, rf"from rank 0: .*, {kernels} kernels, ")

    def test_trains_without_avx(self):
        # Any instruction of a newer processor, anywhere in the program, would end it with SIGILL.
        directory = str(self.folder / "old")
        config = str(program.SOURCE / "configs" / "tiny.toml")
        done = self.run_on("Nehalem", "train", config, "--threads", "2", "--run-dir", directory, "--set", "train.steps=20",
                           "--set", 'flossing.schedule=["before"]', "--set", "flossing.before=5", "--set",
                           "flossing.exponents=3", "--set", "flossing.horizon=20", "--set", "train.test_batches=2")
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)
        self.assertIn("done: 20 training steps, 5 flossing steps", done.stdout)

    def test_environment_chooses_kernels(self):
        done = program.run("info", env={**os.environ, "SPIKEFLOSS_CPU": "x86-64"})
        self.assertRegex(done.out, r"from rank 0: .*, x86-64 kernels, ", str(done))
        for value, message in (("avx2", "this build has no CPU kernels for 'avx2', which SPIKEFLOSS_CPU names"),
                               ("x86-64-v4", "this machine's processor does not have all instructions of x86-64-v4")):
            done = self.info_on("Haswell", SPIKEFLOSS_CPU=value)
            self.assertEqual(done.returncode, program.USAGE, done.stderr)
            self.assertIn(message, done.stderr)
            self.assertIn("what to do: ", done.stderr)

    def test_unknown_processor_has_kernels_that_fit(self):
        # A model number that does not exist. The program that it starts again runs on the real processor. But its
        # choice is for the emulated processor, which has AVX2 and no AVX-512.
        done = self.info_on("Haswell,family=6,model=250")
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)
        self.assertRegex(done.stdout, r"BLAS +OpenBLAS .* Haswell ")

    def test_kernels_that_were_asked_for_are_kept(self):
        done = program.run("info", env={**os.environ, "OPENBLAS_CORETYPE": "Prescott"})
        self.assertRegex(done.out, r"BLAS +OpenBLAS .* Prescott ", str(done))
        self.assertNotIn("warning", done.out)

    def test_kernels_that_openblas_does_not_know_are_told(self):
        for name in ("avx2", "Zen9"):
            done = program.run("info", env={**os.environ, "OPENBLAS_CORETYPE": name})
            self.assertRegex(done.out, rf"warning: OPENBLAS_CORETYPE names '{name}', which OpenBLAS does not know; it "
                                       r"uses \w+")

    def test_kernels_that_the_processor_cannot_run_are_an_error(self):
        # Until they are used, nothing is wrong; the first product would end the program.
        for processor, kernels in (("Haswell", "SkylakeX"), ("Nehalem", "Haswell"), ("Nehalem", "Sandybridge")):
            done = self.info_on(processor, OPENBLAS_CORETYPE=kernels)
            self.assertEqual(done.returncode, program.USAGE, done.stdout + done.stderr)
            self.assertIn(f"OpenBLAS has its kernels for {kernels}, with instructions that this processor lacks", done.stderr)
            self.assertIn("what to do: unset the environment variable OPENBLAS_CORETYPE", done.stderr)


if __name__ == "__main__":
    if shutil.which("qemu-x86_64") is None:
        program.skip("no qemu-x86_64 (package qemu-user), which pretends to be other processors")
    program.main()
