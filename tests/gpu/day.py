"""A command of tests/gpu/run: where things are, what was found so far, and the cases of the carried tests."""

import importlib.util
import json
import os
import re
import signal

import machine
import record

LIST_LIMIT = 30  # seconds of a process that only prints


class Day:
    """One command of the script: where things are, what was found so far, and what was asked for."""

    def __init__(self, carry, out, log, options):
        self.carry, self.out, self.record, self.options = carry, out, log, options
        self.packed = machine.packed(carry)
        folders, missing = machine.library_folders(carry, self.packed["emulated"])
        for library in missing:
            log.add("libraries", library, "missing", 0.0, "not on this machine")
        self.environment = machine.environment_of(carry, folders)
        self.tests, self.bench_arguments = self.packed["tests"], self.packed["bench_arguments"]
        self.cases, self.failed = {}, []
        self.jobs = options.jobs or min(5, os.cpu_count() or 1)
        self.summary = load_summary(carry)

    def expand(self, text):
        return text.replace("@ROOT@", str(self.carry / "root")).replace("@BIN@", str(self.carry / "bin"))

    def environment_of(self, test):
        """The common environment and what ctest sets for this entry."""
        own = {name: self.expand(value) for name, value in test["environment"].items()}
        if "PYTHONPATH" in own and os.environ.get("PYTHONPATH"):
            own["PYTHONPATH"] += ":" + os.environ["PYTHONPATH"]
        together = is_python(test) or test["ranks"] > 1
        return {**(machine.several_ranks(self.environment) if together else self.environment), **own}

    def launcher(self, test):
        return [self.carry / "mpi/bin/mpirun", "-n", test["ranks"]] if test["ranks"] > 1 else []

    def executable(self, test):
        return self.carry / "bin" / test["executable"]

    def cases_of(self, test, slot=0):
        """The names of the GoogleTest cases of an entry; asks the executable once."""
        if test["name"] not in self.cases:
            arguments = [self.expand(part) for part in test["arguments"]]
            command = [self.executable(test), *arguments, "--gtest_list_tests"]
            result = self.record.process(
                "list", test["name"], command, self.environment_of(test), LIST_LIMIT, judge_list, self.carry, slot
            )
            self.cases[test["name"]] = names_of_list(result.text) if result.good() else []
        return self.cases[test["name"]]

    def all_cases(self, ranks):
        """(test, case) of the entries whose number of ranks `ranks` accepts and that match --cases."""
        tests = [test for test in self.tests if not is_python(test) and ranks(test["ranks"])]
        self.record.parallel(min(3, self.jobs), [lambda slot, test=test: self.cases_of(test, slot) for test in tests])
        found = [(test, case) for test in tests for case in self.cases_of(test)]
        return [pair for pair in found if re.search(self.options.cases, label(*pair))]

    def case(self, stage, test, case, limit, slot, prefix=(), more=None, judge=record.judge_case, arguments=()):
        command = [*prefix, *self.launcher(test), self.executable(test), f"--gtest_filter={case}", *arguments]
        name = " ".join([*prefix[2:3], label(test, case)])  # with the tool that stages.under() names
        return self.record.process(
            stage, name, command, {**self.environment_of(test), **(more or {})}, limit, judge, self.carry, slot
        )

    def keep(self, part, whole):
        """Adds the results in the file `part` to those in `whole`, and removes `part`."""
        part, whole = self.out / part, self.out / whole
        loaded = [self.summary.load(path) for path in (whole, part) if path.exists()]
        found = [document for document in loaded if document]
        if not part.exists() or not found:
            return
        fresh = self.out / (whole.name + ".new")
        fresh.write_text(json.dumps(self.summary.merged(found), indent=1))
        os.replace(fresh, whole)
        part.unlink()


def load_summary(carry):
    spec = importlib.util.spec_from_file_location("summary", carry / "root/bench/peers/summary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def label(test, case):
    return f"{test['executable']}:{case}" + (f" ({test['ranks']} ranks)" if test["ranks"] > 1 else "")


def is_python(test):
    return test["executable"].startswith("python")


def names_of_list(text):
    """Case names of the output of --gtest_list_tests."""
    names, suite = [], ""
    for line in text.splitlines():
        if re.match(r"^\S+\.(\s|$)", line):
            suite = line.split()[0]
        elif suite and re.match(r"^  \S", line):
            names.append(suite + line.split()[0])
    return names


def judge_list(status, text):
    verdict, note = record.judge_status(status, text)
    count = len(names_of_list(text))
    if verdict != "ok":
        return verdict, note
    return ("ok", f"{count} cases") if count else ("nothing", note)


def stop_children(day):
    """Ends what carried executables left running."""
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/exe").startswith(str(day.carry) + "/"):
                os.kill(int(entry), signal.SIGKILL)
        except OSError:
            continue
