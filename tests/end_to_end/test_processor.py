"""On a processor without the instructions the program was built for it says so, instead of dying of SIGILL."""
import shutil
import subprocess

import program


class ProcessorTest(program.ProgramTest):
    def info_on(self, processor):
        return subprocess.run(["qemu-x86_64", "-cpu", processor, program.PROGRAM, "info"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)

    def test_old_processor_is_told(self):
        done = self.info_on("Nehalem")
        self.assertEqual(done.returncode, program.USAGE, done.stderr)
        self.assertIn("spikefloss: error: this build needs a processor with AVX2", done.stderr)
        self.assertIn("what to do: build it with", done.stderr)

    def test_newer_processor_is_not(self):
        done = self.info_on("max")
        self.assertNotIn("AVX2", done.stderr)
        self.assertEqual(done.returncode, program.SUCCESS, done.stderr)


if __name__ == "__main__":
    if shutil.which("qemu-x86_64") is None:
        program.skip("no qemu-x86_64 (package qemu-user), which pretends to be other processors")
    program.main()
