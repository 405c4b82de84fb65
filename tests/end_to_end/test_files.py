"""The effect of the commands on files that a user names: outputs that must not be written, inputs that are damaged."""
import os
import stat
import subprocess
import sys

import program


class OutputTest(program.ProgramTest):
    def test_outputs_that_would_destroy_something(self):
        run, network = self.folder / "run", program.write_network(self.folder / "net.h5")
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=2", "--set", "checkpoint.every=2")
        before = {path: path.read_bytes() for path in [network, *run.iterdir()]}
        thesis, fifo = self.folder / "thesis", self.folder / "fifo"
        thesis.write_text("my thesis")
        os.mkfifo(fifo)
        os.link(network, self.folder / "hard.h5")
        spectrum = ("spectrum", "--network", network, "--input", network, "--exponents", 2, "--output")
        gradients = ("gradients", "--penalty", "task", *spectrum[1:-3], "--output")
        plot = [sys.executable, program.SOURCE / "launch/plot", run, "-o"]
        for command, said in ((spectrum, "exists already and is not"), (("report", run, "-o"), "--overwrite")):
            self.fail_with(program.BAD_FILE, [said], *command, thesis)
            self.fail_with(program.BAD_FILE, ["this is a FIFO"], *command, fifo)
        self.fail_with(program.BAD_FILE, ["would overwrite the input"], *gradients, self.folder / "hard.h5", "--overwrite")
        self.fail_with(program.BAD_FILE, ["would overwrite the input"], "report", run, "-o", run / "metrics.jsonl",
                       "--overwrite")
        # A result of another kind is not replaced, either. A result of the same kind is, also through a link.
        result, link = self.folder / "result.h5", self.folder / "link.h5"
        link.symlink_to("result.h5")
        self.succeed(*spectrum, link)
        self.fail_with(program.BAD_FILE, ["exists already and is not"], *gradients, result)
        self.succeed(*spectrum, link)
        self.succeed(*gradients, result, "--overwrite")
        self.assertTrue(link.is_symlink())
        self.assertEqual(program.read_file(result)["@format"], "spikefloss-gradients")
        for output, said in ((run / "metrics.jsonl", "does not end in"), (self.folder / "a.svg", "is not a regular file")):
            if output.suffix == ".svg":
                os.mkfifo(output)
            drawn = subprocess.run([*map(str, plot), str(output)], capture_output=True, text=True)
            self.assertEqual((drawn.returncode, said in drawn.stderr), (2, True), drawn.stderr)
        # The ending tells launch/plot the format. Here a link with such an ending leads to a record.
        (self.folder / "b.svg").symlink_to(run / "metrics.jsonl")
        drawn = subprocess.run([*map(str, plot), str(self.folder / "b.svg"), "--overwrite"], capture_output=True, text=True)
        self.assertEqual((drawn.returncode, "would overwrite the input" in drawn.stderr), (2, True), drawn.stderr)
        self.assertEqual({path: path.read_bytes() for path in before}, before)
        self.assertEqual(thesis.read_text(), "my thesis")
        self.assertTrue(stat.S_ISFIFO(os.lstat(fifo).st_mode))

    def test_reports_at_once(self):
        run = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=2")
        began = [program.start(("report", run)) for _ in range(6)]
        self.assertEqual([program.wait(process, 0, 60).code for process in began], [0] * 6)
        self.assertEqual(list(run.glob("*.partial")), [])


class DamagedTest(program.ProgramTest):
    def damaged(self):
        """A network that ends libhdf5 1.10 with a segmentation fault: one byte of the type of an attribute (the size of
        its text) is changed."""
        path = program.write_network(self.folder / "damaged.h5")
        data = path.read_bytes()
        place = data.index(b"reset\0\0\0\x19\x01\x01\0\x10") + len("reset...") + 4
        path.write_bytes(data[:place] + b"\x46" + data[place + 1:])
        return path

    def test_a_file_that_takes_the_library_down(self):
        path, good = self.damaged(), program.write_network(self.folder / "good.h5")
        output = self.folder / "out.h5"
        options = ("--exponents", 2, "--output", output)
        for ranks in (None, 2):
            self.fail_with(program.BAD_FILE, [str(path)], "spectrum", "--network", path, "--input", good, *options,
                           ranks=ranks)
        self.fail_with(program.BAD_FILE, [str(path)], "train", self.config(), "--run-dir", self.folder / "run",
                       "--set", f"network.file={path}")
        self.assertFalse(output.exists())
        # The process that tries a file prints nothing and needs no MPI.
        probe = subprocess.run([program.PROGRAM, "--probe-hdf5", str(good)], capture_output=True, env={})
        self.assertEqual((probe.returncode, probe.stdout, probe.stderr), (0, b"", b""))

    def test_a_checkpoint_with_one_flipped_bit_is_not_opened(self):
        run = self.folder / "run"
        self.succeed("train", self.config(), "--run-dir", run, "--set", "train.steps=2")
        path = program.checkpoints(run)[-1]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        for command in (("eval", path), ("spectrum", "--network", path, "--input", path, "--output", self.folder / "o.h5")):
            self.fail_with(program.BAD_FILE, ["its bytes do not match their checksum"], *command)


if __name__ == "__main__":
    program.main()
