"""A full disk and a read-only one, as small file systems of this test: the run ends with code 1 and a message, earlier
files stay whole, and --resume continues once there is room again.
"""
import errno
import os
import subprocess

import launched
import program


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def free_bytes(place):
    free = os.statvfs(place)
    return free.f_bavail * free.f_frsize


class StorageTest(launched.LaunchedTest):
    def disk(self, size):
        place = self.folder / "disk"
        place.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        return place

    def fill(self, place, leave):
        """Fills the disk except for about `leave` bytes."""
        filler = place / "filler"
        with open(filler, "wb") as file:
            while (size := free_bytes(place) - leave) > 0:
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                    break
                except OSError as error:  # the run wrote something since free_bytes
                    if error.errno != errno.ENOSPC:
                        raise
        return filler

    def check_told(self, result, problem):
        self.assertEqual(result.code, program.STORAGE, str(result))
        self.assertEqual(len(result.errors()), 1, str(result))
        self.assertIn("cannot write", result.errors()[0])
        self.assertIn(problem, result.errors()[0])
        self.assertIn("\n  what to do: ", result.err)

    def test_full_disk(self):
        place = self.disk("8m")
        # Without space for a checkpoint; without space for a line of metrics.
        for leave in (100000, 0):
            with self.subTest(leave=leave):
                directory = place / f"run_{leave}"
                process = self.begin(directory)
                filler = self.fill(place, leave)
                result = self.finish(process)
                self.check_told(result, "No space left on device")
                self.assertIn("is whole", result.out)  # the last checkpoint
                self.assert_nothing_left(directory)
                self.assertEqual(list(directory.glob("*.partial")), [])
                step = launched.newest_step(directory)
                self.assertGreaterEqual(step, 10)
                self.assertEqual(len(program.checkpoints(directory)), 2)
                for kept in program.checkpoints(directory):
                    self.succeed("eval", kept)
                # Still no space: reported again, and the attempt loses nothing.
                result = self.launch(*self.arguments(directory, "--resume"), code=program.STORAGE)
                self.check_told(result, "No space left on device")
                self.assertEqual(launched.newest_step(directory), step)
                filler.unlink()
                self.assert_goes_on(directory)
                launched.shutil.rmtree(directory)

    def test_full_from_the_start(self):
        place = self.disk("1m")
        self.fill(place, 0)
        self.check_told(self.launch(*self.arguments(place / "run"), code=program.STORAGE), "No space left on device")

    def test_read_only(self):
        place = self.disk("64m")  # the records of a slow start on a busy machine filled 8 MB
        directory = place / "run"
        process = self.begin(directory)
        process.send_signal(launched.signal.SIGUSR1)
        self.assertEqual(self.finish(process).code, program.STOPPED)
        kept = program.checkpoints(directory)
        mount("-o", "remount,bind,ro", place)
        result = self.launch(*self.arguments(directory, "--resume"), code=program.STORAGE)
        self.check_told(result, "Read-only file system")
        result = self.launch(*self.arguments(place / "new"), code=program.STORAGE)
        self.assertIn("cannot make the run directory", result.errors()[0])
        self.assertIn("Read-only file system", result.errors()[0])
        # Reading a run needs no permission to write.
        self.succeed("eval", directory)
        mount("-o", "remount,bind,rw", place)
        self.assertEqual(program.checkpoints(directory), kept)
        self.assert_goes_on(directory)


if __name__ == "__main__":
    launched.in_namespaces("--mount")
    program.main()
