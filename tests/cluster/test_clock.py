"""A clock that is set back by days during a run (as by NTP on a machine that has booted with a wrong one). Training
continues, times of the run never decrease, and --resume uses the newest step, whatever the times of files are.

A small library in front of the C library sets the clock back, for the launcher, mpirun and the ranks.
"""
import os
import re
import shutil
import subprocess
import time

import launched
import program

SHIM = r"""
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Three days back once the file named in CLOCK_SET_BACK is there. */
static time_t back(void) {
    const char* file = getenv("CLOCK_SET_BACK");
    return file && access(file, F_OK) == 0 ? 3 * 86400 : 0;
}
int clock_gettime(clockid_t clock, struct timespec* now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec -= back();
    return result;
}
int gettimeofday(struct timeval* now, void* zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t* where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"""


class ClockTest(launched.LaunchedTest):
    def pretended(self):
        """The environment in which the clock is set back as soon as self.folder / "back" exists."""
        source, library = self.folder / "clock.c", self.folder / "clock.so"
        source.write_text(SHIM)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SET_BACK": str(self.folder / "back"),
                "ASAN_OPTIONS": options}

    def days(self, text):
        return [time.mktime(time.strptime(date, "%Y-%m-%d")) for date in re.findall(r"^--- (\d+-\d+-\d+)", text, re.M)]

    def test_set_back(self):
        environment = self.pretended()
        directory = self.folder / "run"
        more = ["--set", "metrics.tensorboard=true", "--set", "checkpoint.keep=4"]
        process = self.begin(directory, *more, env=environment)
        (self.folder / "back").touch()
        reached = launched.newest_step(directory)
        launched.wait_until(lambda: launched.newest_step(directory) >= reached + 20, "steps after the change", process)
        process.send_signal(launched.signal.SIGTERM)
        result = self.finish(process)
        self.assertEqual(result.code, program.STOPPED, str(result))

        # The newest file, by its time, is the oldest checkpoint.
        kept = program.checkpoints(directory)
        self.assertEqual(len(kept), 4)
        now = time.time()
        for age, path in enumerate(kept):
            os.utime(path, (now, now - 3600 * age))
        self.assert_goes_on(directory, *more, env=environment)

        # TensorBoard reads the sessions in the order of these names.
        events = sorted((directory / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime)
        self.assertEqual(len(events), 2)
        self.assertEqual(events, sorted(events))

        first, second = self.days((directory / "log.txt").read_text())[:2]
        self.assertLess(second, first - 86400, "the clock was set back")
        lines = program.read_lines(directory / "metrics.jsonl")
        seconds = [line["seconds"] for line in lines]
        self.assertGreater(seconds[0], 0.0)
        self.assertEqual(seconds, sorted(seconds))
        self.assertLess(seconds[-1], 3600)
        self.assertTrue(all(line["sequences_per_second"] > 0 for line in lines))
        self.assertEqual([line["step"] for line in lines], list(range(1, len(lines) + 1)))

    def test_lost_rank_after_it(self):
        """The watchdog and the launcher do not use this clock."""
        environment = self.pretended()
        directory = self.folder / "lost"
        process = self.begin(directory, "--watchdog", 4, env=environment)
        (self.folder / "back").touch()
        os.kill(launched.ranks_of(directory)[1], launched.signal.SIGSTOP)
        result = self.finish(process, limit=60)
        self.assertEqual(result.code, program.LOST, str(result))
        self.assertIn("rank 1 (", result.err)
        self.assert_nothing_left(directory)


if __name__ == "__main__":
    if shutil.which("gcc") is None:
        program.skip("no C compiler for the library that pretends the clock")
    program.main()
