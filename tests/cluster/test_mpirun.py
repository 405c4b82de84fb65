"""launch/mpirun.sh on one machine: signals end a run with a checkpoint and code 85, a lost rank ends it with 75, and
--resume then reaches the state of an undisturbed run, bit for bit. Also the number of ranks it chooses, and the calls
it refuses.
"""
import os
import signal
import stat
import subprocess
import time

import launched
import program


class SignalTest(launched.LaunchedTest):
    def check_stop(self, sign, *extra):
        directory = self.folder / sign.name
        process = self.begin(directory, *extra)
        process.send_signal(sign)
        result = self.finish(process)
        self.assertEqual(result.code, program.STOPPED, str(result))
        self.assertIn("stopped by a signal after training step", result.out)
        self.assertEqual(result.errors(), [], str(result))
        self.assertNotIn("mpirun", result.err, str(result))
        records = program.read_lines(directory / "metrics.jsonl")
        self.assertEqual(launched.newest_step(directory), records[-1]["step"])
        self.assert_nothing_left(directory)
        self.assert_goes_on(directory)

    def test_usr1(self):
        self.check_stop(signal.SIGUSR1)

    @program.full
    def test_term(self):
        self.check_stop(signal.SIGTERM)

    @program.full
    def test_int(self):
        self.check_stop(signal.SIGINT)

    @program.full
    def test_stop_signal_of_the_config(self):
        # A SIGUSR1 at this moment would end the ranks.
        self.check_stop(signal.SIGTERM, "--set", 'run.stop_signals=["USR2"]')

    @program.full
    def test_while_the_ranks_start(self):
        """As soon as the launcher has its traps, no signal is lost or ends the run without a checkpoint."""
        for delay in (0.0, 0.2, 0.5, 1.0):
            with self.subTest(delay=delay):
                directory = self.folder / f"early_{delay}"
                process = self.start(*self.arguments(directory))

                def caught():
                    status = launched.Path(f"/proc/{process.pid}/status").read_text()
                    return int(status.split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1

                launched.wait_until(caught, "the launcher's traps", process)
                time.sleep(delay)
                process.send_signal(signal.SIGTERM)
                result = self.finish(process)
                self.assertEqual(result.code, program.STOPPED, str(result))
                self.assert_nothing_left(directory)

    @program.full
    def test_term_twice_ends_at_once(self):
        directory = self.folder / "twice"
        # A step takes minutes, so a wait for its end would show.
        long = ["--set", "task.duration=2000000", "--set", "checkpoint.every=1"]
        process = self.start(*self.arguments(directory, *long))
        launched.wait_until(lambda: (directory / "log.txt").exists() and len(launched.ranks_of(directory)) == 2,
                            "a run", process)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        time.sleep(2.0)
        self.assertIsNone(process.poll(), "it waits for the end of the step")
        process.send_signal(signal.SIGTERM)
        result = self.finish(process, limit=30)
        self.assertEqual(result.code, 128 + signal.SIGTERM, str(result))
        self.assertIn("ended at once", result.err)
        self.assert_nothing_left(directory)

    @program.full
    def test_usr1_again_changes_nothing(self):
        directory = self.folder / "again"
        process = self.begin(directory)
        for _ in range(3):
            process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.finish(process).code, program.STOPPED)
        self.assert_nothing_left(directory)

    def test_signals_at_the_end(self):
        """A signal that comes as mpirun ends is not taken for its exit code."""
        directory = self.folder / "end"
        process = self.start(*self.arguments(directory, steps=20))
        launched.wait_until(lambda: launched.newest_step(directory) >= 5, "a checkpoint", process)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.001)
        result = self.finish(process)
        self.assertIn(result.code, (program.SUCCESS, program.STOPPED), str(result))
        self.assertNotIn("mpirun", result.err, str(result))
        self.assert_nothing_left(directory)


class LostRankTest(launched.LaunchedTest):
    def test_killed(self):
        for victim in (1,) if program.QUICK else (0, 1):
            with self.subTest(victim=victim):
                directory = self.folder / f"killed_{victim}"
                process = self.begin(directory)
                launched.kill(launched.ranks_of(directory)[victim])
                result = self.finish(process, limit=30)
                self.assertEqual(result.code, program.LOST, str(result))
                self.assertRegex(result.err, rf"rank {victim} \(.*\) was killed .* --resume", str(result))
                self.assert_nothing_left(directory)
                self.assert_goes_on(directory)

    @program.full
    def test_stopped_rank_is_named(self):
        for victim in (0, 1):
            with self.subTest(victim=victim):
                directory = self.folder / f"stopped_{victim}"
                process = self.begin(directory, "--watchdog", 4)
                os.kill(launched.ranks_of(directory)[victim], signal.SIGSTOP)
                result = self.finish(process, limit=60)
                self.assertEqual(result.code, program.LOST, str(result))
                # In the middle of a collective the message names it as one of the ranks in the collective.
                self.assertIn(f"rank {victim} (", result.err, str(result))
                self.assertIn(f"[rank {1 - victim}]: error: ", result.err, str(result))
                self.assertRegex(result.err, r"(MPI_\w+|writing a checkpoint), training step \d+", str(result))
                self.assertIn("--resume", result.err, str(result))
                self.assert_nothing_left(directory)
                self.assert_goes_on(directory)

    @program.full
    def test_stopped_while_starting(self):
        """In MPI_Init or before the first step: the other ranks do not wait for ever."""
        for delay in (0.0, 0.4, 0.8):
            with self.subTest(delay=delay):
                directory = self.folder / f"starting_{delay}"
                process = self.start(*self.arguments(directory, "--watchdog", 4))
                launched.wait_until(lambda: len(launched.ranks_of(directory)) == 2, "ranks", process)
                time.sleep(delay)
                os.kill(launched.ranks_of(directory)[1], signal.SIGSTOP)
                result = self.finish(process, limit=60)
                self.assertEqual(result.code, program.LOST, str(result))
                self.assertGreater(len(result.errors()), 0, str(result))
                print(f"stopped after {delay} s: {result.errors()[0]}")
                self.assert_nothing_left(directory)

    @program.full
    def test_mpirun_killed(self):
        """As an administrator may do: the ranks end, too."""
        directory = self.folder / "orphans"
        # Their shared memory is not deleted then, so it must not be in /dev/shm.
        process = self.begin(directory, env={**os.environ, "OMPI_MCA_btl_vader_backing_directory": str(self.folder)})
        mpirun = [pid for pid, words in launched.all_of(directory) if os.path.basename(words[0]) == "mpirun"]
        self.assertEqual(len(mpirun), 1)
        launched.kill(mpirun[0])
        result = self.finish(process)
        self.assertEqual(result.code, program.LOST, str(result))
        self.assertIn("was killed itself", result.err)
        self.assert_nothing_left(directory)
        self.assert_goes_on(directory)


    def test_launcher_killed(self):
        """mpirun and the ranks end with the script. Until then no rank listens on the network."""
        directory = self.folder / "abandoned"
        process = self.begin(directory)
        self.assertEqual([socket for pid in launched.ranks_of(directory) for socket in launched.listening(pid)], [])
        launched.kill(process.pid)
        self.finish(process)
        self.assert_nothing_left(directory)
        self.assert_goes_on(directory)

    def test_suspended_together(self):
        """Suspended for longer than the time limit, then continued: suspended time does not count as waiting time."""
        directory = self.folder / "suspended"
        process = self.begin(directory, "--watchdog", 3)
        ranks = launched.ranks_of(directory)
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        step = launched.newest_step(directory)
        time.sleep(7.0)
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
        launched.wait_until(lambda: launched.newest_step(directory) > step, "a checkpoint after the pause", process)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process).code, program.STOPPED)

    def test_reader_goes_away(self):
        """Lines without a reader do not end the run. mpirun alone would end it after some of them."""
        directory = self.folder / "unread"
        process = self.start(*self.arguments(directory, steps=60))
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        self.assertEqual(self.finish(process).code, program.SUCCESS)
        self.assertIn("\ndone: ", (directory / "log.txt").read_text())


class PlaceTest(launched.LaunchedTest):
    def test_folder_for_temporary_files(self):
        """Faults for which mpirun prints forty lines are reported in two lines, before anything starts."""
        foreign = self.folder / "foreign"
        foreign.mkdir()
        (foreign / f"ompi.{os.uname().nodename.split('.')[0]}.{os.getuid()}").touch()
        for folder, part in (("/proc", "/proc, is missing or cannot be written to"), (foreign, "belongs to another user")):
            result = self.launch(*self.arguments(self.folder / "run"), code=program.USAGE,
                                 env={**os.environ, "TMPDIR": str(folder)})
            self.check_error(result, program.USAGE, [part, "TMPDIR"])
            self.assertEqual(len(result.err.splitlines()), 2)
        self.assertFalse((self.folder / "run").exists())

    def test_long_path(self):
        """Open MPI writes beyond a buffer of 256 characters."""
        directory = self.folder / ("a" * 120) / ("b" * 120)
        self.launch(*self.arguments(directory, steps=2))
        self.assertEqual(len(program.checkpoints(directory)), 1)


class ChoiceTest(launched.LaunchedTest):
    def choice(self, *arguments, code=program.SUCCESS, **options):
        directory = self.folder / "chosen"
        result = self.launch(*self.arguments(directory, *arguments, steps=1, ranks=None), code=code, **options)
        launched.shutil.rmtree(directory, ignore_errors=True)
        return result

    @program.full
    def test_ranks(self):
        cores = int(subprocess.run([program.SOURCE / "launch/mpirun/host.sh"], check=True, capture_output=True,
                                   text=True).stdout.split()[2])
        result = self.choice("--set", f"train.batch={cores}")
        self.assertIn(f"{cores} rank", result.err)
        self.assertIn("one for each physical core", result.err)
        self.assertIn(f"on a 1x{cores} grid", result.out)
        self.assertIn("for the grid 2x2", self.choice("--grid", "2x2").err)
        result = self.choice("--set", "train.batch=1")
        self.assertIn("1 rank on", result.err)
        self.assertIn("one for each of train.batch", result.err)
        result = self.choice(env={**os.environ, "SLURM_NTASKS": "2"})
        self.assertIn("2 ranks", result.err)
        self.assertIn("the tasks of the Slurm job", result.err)
        self.assertIn("on a 1x4 grid", self.launch(*self.arguments(self.folder / "four", steps=1, ranks=4)).out)

    @program.full
    def test_a_job_that_takes_all_cores_is_bound(self):
        cores = os.cpu_count()
        for ranks, threads, bound in ((1, 0, f"{cores} threads each, bound to"), (2 * cores, 1, "not bound")):
            directory = self.folder / f"bound_{ranks}"
            arguments = self.arguments(directory, "--set", "train.batch=64", steps=1, ranks=ranks)
            at = arguments.index("--threads")
            arguments[at:at + 2] = ["--threads", threads] if threads else []
            if subprocess.run(["lscpu", "-p=CORE"], capture_output=True, text=True,
                              check=False).stdout.count("\n0\n") == 1:  # each thread has its own core
                self.assertIn(bound, self.launch(*arguments).err)

    @program.full
    def test_gpus(self):
        """One rank for each GPU if the program can use GPUs. Stubs replace nvidia-smi and the program."""
        tools = self.folder / "tools"
        tools.mkdir()
        real = os.path.realpath(program.PROGRAM)
        says_cuda = f'case $1 in info) echo "backends     cpu, cuda" ;; *) exec "{real}" "$@" ;; esac'
        for name, text in (("nvidia-smi", 'for i in 0 1 2; do echo "GPU $i: NVIDIA X (UUID: $i)"; done'),
                           ("with_cuda", says_cuda)):
            path = tools / name
            path.write_text("#!/bin/sh\n" + text + "\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        with_cuda = {**path, "SPIKEFLOSS": str(tools / "with_cuda")}
        result = self.choice(env=with_cuda)
        self.assertIn("3 ranks", result.err)
        self.assertIn("one for each GPU", result.err)
        self.assertIn("one for each physical core", self.choice("--backend", "cpu", env=with_cuda).err)
        if b"cuda" not in subprocess.run([real, "info"], capture_output=True, check=True).stdout:
            self.assertIn("one for each physical core", self.choice(env=path).err)

    def test_refusals(self):
        config = self.config(launched.CONFIG)
        run = ["--run-dir", self.folder / "refused"]
        for fragment, arguments in (("usage", []), ("no config file", ["nosuch.toml"]), ("0 ranks", [config, 0]),
                                    ("--hostfile has no file", [config, "--hostfile"]),
                                    ("cannot be read", [config, "--hostfile", "/nosuch"]),
                                    ("unknown key parallel.timeout", [config, 2, *run, "--set", "parallel.timeout=3"]),
                                    ("--timeout", [config, 2, *run, "--timeout", 3]),
                                    ("run.stop_signals", [config, 2, *run, "--set", "run.stop_signals=TERM"]),
                                    ("over 20 groups", [config, 20, *run])):
            with self.subTest(fragment=fragment):
                result = self.launch(*arguments, code=program.USAGE)
                self.assertIn(fragment if fragment != "usage" else "launch/mpirun.sh CONFIG [RANKS]", result.err)
                self.assertFalse((self.folder / "refused").exists())
        self.assertIn("Exit codes", self.launch("--help").out)
        nowhere = self.launch(config, 2, code=program.USAGE, env={**os.environ, "SPIKEFLOSS": "/nosuch"})
        self.assertIn("launch/build spikefloss", nowhere.err)


if __name__ == "__main__":
    program.main()
