"""Runs processes with time limits and writes down each result before the next process starts.

Files of command C in the folder for results:
  C.tsv        a line for each process: stage, name, verdict, seconds, note
  C.SLOT.log   the output of the processes, as it comes; parallel processes have a slot each
Both are written in place. A crash, a hang or the end of the machine's time leaves all that came before.
"""

import concurrent.futures
import os
import re
import shlex
import signal
import subprocess
import threading
import time

import machine

KEPT_START, KEPT_END = 60_000, 140_000  # bytes of a process's output that stay in the log
MOST_OUTPUT = 8_000_000  # a process with more output than this is ended
GOOD = ("ok",)
# Facts about the machine or the time, which are no defects of the program.
NOTED = ("missing", "tool", "resources", "slow", "again")


class Result:
    """What became of a process. status: its exit status, below 0 the number of a signal, None at the time limit."""

    def __init__(self, verdict, seconds=0.0, note="", status=None, text=""):
        self.verdict, self.seconds, self.note, self.status, self.text = verdict, seconds, note, status, text

    def good(self):
        return self.verdict in GOOD


def ending(status):
    """The verdict for an exit status alone."""
    if status is None:
        return "HANG"
    if status < 0 or 128 < status < 160:  # mpirun and shells give 128 + the signal
        number = -status if status < 0 else status - 128
        names = {int(each): each.name for each in signal.Signals}
        return f"CRASHED({names.get(number, number)})"
    return f"FAILED({status})" if status else "ok"


def last_line(text):
    """The last line that is neither empty nor of Open MPI's report on a signal."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(r"\[\S+:\d+\]", line)]
    return lines[-1] if lines else ""


def reason(text):
    """The message of the first error, without its line breaks, or the last line."""
    found = re.search(r"^.*(?:\berror: | Failure$|what\(\)|terminate called|Assertion)(?:.*\n){0,2}.*", text, re.M)
    return " ".join(found[0].split()) if found else last_line(text)


def judge_status(status, text):
    """Verdict and note of a process that needs only exit status 0."""
    verdict = ending(status)
    return verdict, "" if verdict == "ok" else reason(text)


def judge_case(status, text):
    """Verdict and note of one GoogleTest case: exactly one case must have passed."""
    if re.search(r"\[  SKIPPED \]", text):
        return "skipped", last_line(text)
    if status == 0:
        return ("ok", "") if re.search(r"\[  PASSED  \] 1 test", text) else ("nothing", last_line(text))
    return ending(status), reason(text)


class Record:
    """The processes of a command. scratch: a folder for files that they need only while they run."""

    def __init__(self, out, command, total, scratch):
        self.out, self.command, self.end, self.scratch = out, command, time.monotonic() + total, scratch
        self.table = open(out / f"{command}.tsv", "w", buffering=1)
        self.lock, self.rows, self.logs = threading.Lock(), [], {}

    def left(self):
        return self.end - time.monotonic()

    def add(self, stage, name, verdict, seconds=0.0, note=""):
        note = note.replace("\t", " ").replace("\n", " ")[:200]
        with self.lock:
            self.rows.append((stage, name, verdict, seconds, note))
            self.table.write(f"{stage}\t{name}\t{verdict}\t{seconds:.1f}\t{note}\n")
            if verdict not in GOOD:
                print(f"{stage:10} {verdict:16} {name}  {note}"[:160], flush=True)
        return Result(verdict, seconds, note)

    def log(self, slot):
        if slot not in self.logs:
            self.logs[slot] = open(self.out / f"{self.command}.{slot}.log", "w+b", buffering=0)
        return self.logs[slot]

    def process(self, stage, name, command, environment, limit, judge=judge_status, folder=None, slot=0):
        """Runs the command to its end or to the limit, in seconds, and adds its result. Its process group ends."""
        limit = min(limit, self.left())
        if limit < 1.0:
            return self.add(stage, name, "notrun", 0.0, "the time was used up")
        environment = {**environment, **machine.own_folder(self.scratch, slot)}
        log = self.log(slot)
        log.seek(0, os.SEEK_END)
        log.write(f"\n==== {stage} {name}\n$ {shlex.join(map(str, command))}\n".encode())
        start, began = log.tell(), time.monotonic()
        # A second descriptor that appends, so that the log can be shortened afterwards.
        with open(log.name, "ab") as output:
            try:
                process = subprocess.Popen(
                    [str(part) for part in command],
                    env=environment,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                return self.add(stage, name, "missing", 0.0, str(error))
        status = self.wait(process, limit, log, start)
        seconds = time.monotonic() - began
        text = self.shorten(log, start)
        verdict, note = judge(status, text)
        if status is None:
            note = f"ended after {seconds:.0f} s; {note}"
        log.seek(0, os.SEEK_END)
        log.write(f"\n---- {verdict}, {seconds:.1f} s\n".encode())
        row = self.add(stage, name, verdict, seconds, note)
        return Result(row.verdict, seconds, row.note, status, text)

    def wait(self, process, limit, log, start):
        began, status = time.monotonic(), None
        while time.monotonic() - began < limit and os.fstat(log.fileno()).st_size - start < MOST_OUTPUT:
            try:
                status = process.wait(timeout=min(0.5, max(0.01, limit - (time.monotonic() - began))))
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        return status

    @staticmethod
    def shorten(log, start):
        """The text since `start`. Of a long one only the start and the end remain, also in the log."""
        log.seek(start)
        data = log.read()
        if len(data) > KEPT_START + KEPT_END:
            left_out = f"\n[... {len(data) - KEPT_START - KEPT_END} bytes are left out ...]\n".encode()
            data = data[:KEPT_START] + left_out + data[-KEPT_END:]
            log.truncate(start)
            log.seek(start)
            log.write(data)
        return data.decode(errors="replace")

    def parallel(self, jobs, work):
        """Calls every function of the list with a slot number below `jobs`, `jobs` of them at a time; their results."""
        free = list(range(jobs))

        def one(function):
            with self.lock:
                slot = free.pop(0)
            try:
                return function(slot)
            finally:
                with self.lock:
                    free.insert(0, slot)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, work))

    def bad(self):
        return [row for row in self.rows if row[2] not in GOOD + NOTED]

    def summary(self):
        """A line for each stage, then those of what was not good or has a note; at most 36 lines."""
        lines = []
        for stage in dict.fromkeys(row[0] for row in self.rows):
            rows = [row for row in self.rows if row[0] == stage]
            verdicts = [row[2] for row in rows]
            counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
            lines.append(f"{stage:10} {counted}; {sum(row[3] for row in rows):.0f} s")
        # Faults, then notes about the machine, then what else is known. Equal notes share a line.
        shown = {}
        for stage, name, verdict, _, note in self.rows:
            if verdict not in GOOD or (note and stage not in ("list", "sanitizer")):
                order = 2 if verdict in GOOD else 1 if verdict in NOTED else 0
                shown.setdefault((order, stage, verdict, note), []).append(name)
        others = sorted(shown.items(), key=lambda entry: entry[0][0])
        room = 36 - len(lines) - 1
        for (_, stage, verdict, note), names in others[:room]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            lines.append(f"  {stage} {verdict} {names[0]}{more}: {note}"[:170])
        if len(others) > room:
            lines.append(f"  and {len(others) - room} more kinds in {self.command}.tsv")
        return lines
