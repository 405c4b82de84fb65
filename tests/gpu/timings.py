"""The stages of tests/gpu/run that measure times, and its end-to-end tests. Each is a function of a Day."""

import json
import os
import re
import shutil

import machine
import record
from day import LIST_LIMIT, is_python

BENCH_LIMIT, PROFILE_LIMIT = 60, 40  # seconds of a process
PROFILES_TIME = 100  # seconds of all profiles, kept free by the stage before
# Sizes at which the way of distributing a pass changes.
CLIFFS = ("train_512_64_100", "train_768_64_100", "train_1100_64_100", "train_1600_64_100")
# Workloads, and what is left out, to time what it replaced (cuda/passes.cpp, cuda/cluster_qr.cu).
REPLACED = (
    ("train_256_64_500", "tiles"),
    ("train_1024_64_500", "tiles"),
    ("train_16384_64_100", "digits"),
    ("floss_1024_32_200_16", "clusters"),
)
PROFILED = (
    ("train_256_64_500", "forward_steps"),
    ("train_256_64_500", "backward_steps"),
    ("train_1024_64_500", "forward_steps"),
    ("train_1024_64_500", "backward_steps"),
    ("floss_64_50_500_1", "tangent_steps_kernel"),
    ("floss_64_50_500_1", "tangent_steps_backward"),
)

# ---- numbers ----


def bench(day, name, arguments, limit, stage="bench"):
    """A process of bench_gpu. Its rows are added to STAGE.json."""
    program = [day.carry / "bin/bench_gpu", *day.bench_arguments, "--json", day.out / "part.json", *arguments]
    result = day.record.process(stage, name, program, day.environment, limit, judge_bench, day.carry)
    day.keep("part.json", f"{stage}.json")
    return result


def judge_bench(status, text):
    row = [line for line in text.splitlines() if re.match("(train|floss)_", line)]
    own = re.search("^bench_gpu: .*", text, re.M)
    if row:
        return record.ending(status), " ".join(row[0].split()[1:])
    return record.ending(status), "" if status == 0 else own[0] if own else record.last_line(text)


def bench_limit(day):
    return min(BENCH_LIMIT, 0.5 * day.record.left(), 3 * day.options.limit)


def listed(day):
    """The names of the workloads, the smallest first."""
    command = [day.carry / "bin/bench_gpu", "--list"]
    result = day.record.process("list", "bench_gpu", command, day.environment, LIST_LIMIT, folder=day.carry)
    return result.text.split() if result.good() else []


def limits_of(day):
    """The value of bench_gpu --limits: the limits measured here, or none."""
    return day.out / "bench.json" if (day.out / "bench.json").exists() else "none"


def limits(day):
    """The limits of the device, which every row is compared with."""
    for name in ("part.json", "bench.json"):
        (day.out / name).unlink(missing_ok=True)
    bench(day, "limits", ["--limits-only"], BENCH_LIMIT)


def workloads(day, names=None):
    """Every workload in a process of its own, the smallest first."""
    if names is None:
        names = day.options.workloads
    if not names:
        names = listed(day)
    for name in names:
        bench(day, name, ["--limits", limits_of(day), "--only", name, "--budget", "10"], bench_limit(day))


def cliffs(day):
    """Sizes between those of the table."""
    if not day.options.workloads:
        workloads(day, CLIFFS)


def replaced(day):
    """What newer passes replaced, to compare it with them."""
    asked = [(name, "tiles") for name in day.options.workloads if name.startswith("train")]
    for name, newer in asked or REPLACED:
        arguments = ["--limits", limits_of(day), "--only", name, "--without", newer, "--budget", "10"]
        bench(day, f"{name} without {newer}", arguments, bench_limit(day))


def end_to_end(day):
    """The entries of several ranks, a case in a process of its own, and the Python entries."""
    ranked = day.all_cases(lambda ranks: ranks > 1)
    scripts = [test for test in day.tests if is_python(test) and re.search(day.options.cases, test["name"])]

    # Time for the profiles that follow.
    reserve = min(PROFILES_TIME, 0.25 * day.record.left())

    def script(test, slot):
        command = ["python3", *(day.expand(part) for part in test["arguments"])]
        limit = min(float(test["timeout"]), day.record.left() - reserve)
        day.record.process(
            "script", test["name"], command, day.environment_of(test), limit, judge_script, day.carry, slot
        )

    def case(test, name, slot):
        day.case("ranks", test, name, min(day.options.limit, day.record.left() - reserve), slot)

    work = [lambda slot, pair=pair: case(*pair, slot) for pair in ranked]
    work += [lambda slot, test=test: script(test, slot) for test in scripts]
    day.record.parallel(min(3, day.jobs), work)


def judge_script(status, text):
    if status == 77:
        return "skipped", record.last_line(text)
    ran = re.search(r"Ran (\d+) tests?", text)
    failed = re.findall(r"^(?:FAIL|ERROR): (\S+)", text, re.M)
    return record.ending(status), " ".join(failed) or (ran[0] if ran else record.last_line(text))


def training(day):
    """Training steps a second of the whole program."""
    config, steps = day.options.config, day.options.steps
    folder = day.carry / "training"
    settings = ("run.sums=float32", f"train.steps={steps}", f"train.report_every={max(1, steps // 20)}")
    arguments = ["--backend", "cuda", *(word for setting in settings for word in ("--set", setting))]

    def judge(status, text):
        try:
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            taken = (lines[-1]["step"] - lines[0]["step"]) / max(1e-9, lines[-1]["seconds"] - lines[0]["seconds"])
        except (OSError, ValueError, LookupError):
            return record.judge_status(status, text)
        return record.ending(status), f"{taken:.1f} steps a second, step {lines[-1]['step']}"

    path = day.carry / "root/configs" / config
    command = [day.carry / "bin/spikefloss", "train", path, *arguments, "--run-dir", folder]
    day.record.process("training", config, command, day.environment, BENCH_LIMIT, judge, day.carry)
    shutil.rmtree(folder, ignore_errors=True)


def profiles(day):
    """Nsight Compute, one launch of each fused kernel."""
    program = machine.tool("ncu")
    if not program:
        return day.record.add("profile", "ncu", "missing", 0.0, "not on this machine")

    def judge(status, text):
        seen = re.search(r"Duration\s+(\S+)\s+(\S+)", text)
        if seen:
            return "ok", f"{seen[2]} {seen[1]}"
        return ("slow", "no report before its time limit") if status is None else ("tool", record.last_line(text))

    for name, kernel in PROFILED:
        how = (
            f"--clock-control none --set full --kernel-name regex:{kernel} --launch-skip 2 --launch-count 1 --kill yes"
        )
        what = f"--limits none --only {name} --repeats 3 --budget 1"
        command = [program, *how.split(), day.carry / "bin/bench_gpu", *day.bench_arguments, *what.split()]
        day.record.process("profile", f"{name} {kernel}", command, day.environment, PROFILE_LIMIT, judge, day.carry)
    return None


# ---- peers ----


def peers(day):
    """Every peer on every workload in a process of its own. Small workloads are carried; bench_gpu writes others."""
    known = [path.parent.name for path in (day.carry / "cases").glob("*/meta.json")]
    names = day.options.workloads or list(dict.fromkeys([*sorted(known, key=sizes), *listed(day)]))
    programs = dict(entry.split("=", 1) for entry in day.options.peer) or {
        name: str(day.carry / f"root/bench/peers/{name}_step.py") for name in ("torch", "jax")
    }
    environment = {
        **os.environ,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": ":".join(filter(None, [str(day.carry / "root/bench/peers"), os.environ.get("PYTHONPATH")])),
    }
    for peer in ("export", "part", *programs):
        (day.out / f"{peer}.json").unlink(missing_ok=True)
    lost = set()  # peers that are not installed
    for i, name in enumerate(names):
        if name not in known:
            what = f"--limits none --only {name} --repeats 3 --budget 2 --export".split()
            if not bench(day, name, [*what, day.carry / "cases"], bench_limit(day), "export").good():
                continue
        here = [peer for peer in programs if peer not in lost]
        for j, peer in enumerate(here):
            share = day.record.left() / ((len(names) - i) * len(here) - j)
            what = ["--only", name, "--json", day.out / "part.json", "--budget", f"{max(1.0, 0.7 * share):.0f}"]
            command = ["python3", programs[peer], day.carry / "cases", *what]
            result = day.record.process("peer", f"{peer} {name}", command, environment, share, judge_peer, day.carry)
            day.keep("part.json", f"{peer}.json")
            if result.verdict == "missing":
                lost.add(peer)


def judge_peer(status, text):
    rows = [line for line in text.splitlines() if re.match("(train|floss)_", line)]
    if status == 0:
        return "ok", f"{len(rows)} rows"
    if "No module named" in text and not rows:
        return "missing", record.last_line(text)
    return record.ending(status), f"{len(rows)} rows; {record.last_line(text)}"


def sizes(name):
    """Sorts names of workloads: training before flossing, the smallest first."""
    return name.startswith("floss"), [int(part) for part in name.split("_")[1:]]
