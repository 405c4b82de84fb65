"""The stages of tests/gpu/run that find faults. Each is a function of a Day; every process is one of Record.process."""

import re

import machine
import record
from day import LIST_LIMIT, label

PROBE_LIMIT = 30  # seconds of a process
SANITIZER_LIMIT = 75
# Whole passes run the fused kernels: a case for each kind, with the smallest sizes. The tangent kernels and the QR have
# their own.
SANITIZED = (
    r"^test_state_passes\w*:.*RepeatedWithOtherValues/cuda_|"
    r"^test_operations_qr\w*:.*TellsWhatTheOperationsTell/cuda_float32|"
    r"^test_operations_tangent_passes\w*:.*(Authors|SecondRound)\w*/cuda_float32"
)
SANITIZED_SMALL = (
    r"^test_state_passes\w*:.*RepeatedWithOtherValues/cuda_(float32|clusters)$|"
    r"^test_operations_tangent_passes\w*:.*SecondRound\w*/cuda_float32"
)
FIRST_CASES = r"operations|passes"
REPEATED = 6  # failed cases that run again

# ---- alive ----


def smoke(day):
    """Whether the machine and the executables work at all."""

    def run(name, command, judge=record.judge_status):
        day.record.process("smoke", name, command, day.environment, LIST_LIMIT, judge, day.carry)

    run("nvidia-smi", ["nvidia-smi"])
    run("kernel", ["uname", "-r"], lambda status, text: (record.ending(status), record.last_line(text)))
    carried = {path.name for path in (day.carry / "lib").iterdir()}

    def judge_libraries(status, text):
        lines = [line.strip() for line in text.splitlines()]
        lost = [line.split()[0] for line in lines if "not found" in line]
        own = [line.split()[0] for line in lines if line and line.split()[0] in carried and str(day.carry) not in line]
        faults = [f"{name} not found" for name in lost] + [f"{name} is not the carried one" for name in own]
        return ("FAILED", "; ".join(faults)) if faults else record.judge_status(status, text)

    for file in sorted((day.carry / "bin").iterdir()):
        run(f"libraries of {file.name}", ["ldd", file], judge_libraries)

    def judge_info(status, text):
        return record.ending(status), " | ".join(line.strip() for line in text.splitlines() if "CUDA" in line)

    run("info", [day.carry / "bin/spikefloss", "info"], judge_info)
    day.all_cases(lambda ranks: True)


def probes(day, names=("meet", "lds", "rz")):
    """tests/gpu/probe.cu: if one of its short kernels fails, the machine is at fault."""
    program = day.carry / "bin/gpu_probe"
    if not program.exists():
        return day.record.add("probe", "gpu_probe", "missing", 0.0, "not in this payload")
    for name in names:
        result = day.record.process("probe", name, [program, name], day.environment, PROBE_LIMIT, folder=day.carry)
        print(result.text, flush=True)
    return None


def judge_sanitizer(status, text):
    """A kernel that needs more registers under the tool than a multiprocessor has does not run. This is no defect."""
    passed = len(re.findall(r"\[       OK \]", text))
    summaries = re.findall(r"=+ (?:ERROR|RACECHECK) SUMMARY: (.*)", text)
    kinds = "Invalid|Uninitialized|Barrier|Race|Potential|Program hit|Out-of-range|Error: Race|Warning: Race"
    reports = re.findall(f"^=+ +((?:{kinds}).*)$", text, re.M)
    own = [line for line in reports if not re.search("LaunchOutOfResources|too many resources", line)]
    note = "; ".join([*own[:1], *summaries[-1:], f"{passed} passed"])
    if own:
        return "NOT_CLEAN", note
    if re.search("LaunchOutOfResources|too many resources", text):
        return "resources", "a kernel needs more resources under the tool than there are"
    if status is None:
        return "slow", "no report before its time limit"
    if not summaries or re.search("Device not supported|[Ff]ailed to initialize", text):
        return "tool", "it did not work here: " + record.last_line(text)
    if not re.match(r"0 (errors|hazards)", summaries[-1]):
        return "NOT_CLEAN", note
    return ("ok", note) if status == 0 and passed else (record.ending(status) if status else "nothing", note)


def under(program, kind):
    return [program, "--tool", kind, "--error-exitcode", "99"]


def sanitizer(day, kinds=("memcheck",), wanted=SANITIZED, limit=SANITIZER_LIMIT):
    """compute-sanitizer over the smallest cases of every kind of fused kernel, each in a process of its own."""
    program = machine.tool("compute-sanitizer")
    if not program:
        return day.record.add("sanitizer", "compute-sanitizer", "missing", 0.0, "not on this machine")
    work = [
        (kind, test, case)
        for kind in kinds
        for test, case in day.all_cases(lambda ranks: ranks == 1)
        if re.search(wanted, label(test, case))
    ]
    if not work:
        return day.record.add("sanitizer", "cases", "nothing", 0.0, "no case has the names that this stage runs")

    def one(kind, test, case, slot):
        return day.case("sanitizer", test, case, limit, slot, under(program, kind), judge=judge_sanitizer)

    day.record.parallel(day.jobs, [lambda slot, entry=entry: one(*entry, slot) for entry in work])
    return None


def cases(day):
    """Every GoogleTest case of one rank in a process of its own. What failed runs again, alone."""
    work = day.all_cases(lambda ranks: ranks == 1)
    work.sort(key=lambda pair: not re.search(FIRST_CASES, label(*pair)))

    def one(test, case, slot):
        verdict = day.case("case", test, case, day.options.limit, slot).verdict
        if verdict not in ("ok", "notrun", "skipped"):
            day.failed.append((verdict == "HANG", test, case))

    day.record.parallel(day.jobs, [lambda slot, pair=pair: one(*pair, slot) for pair in work])
    program = machine.tool("compute-sanitizer")

    def told(judge):
        return lambda status, text: ("again", " ".join(filter(None, judge(status, text))))

    # What hangs comes last, because it takes all of its time.
    for _, test, case in sorted(day.failed, key=lambda failed: failed[0])[:REPEATED]:
        # The kernels one after another, three times: a fault that stays does not depend on timing.
        more, again, limit = {"CUDA_LAUNCH_BLOCKING": "1"}, ["--gtest_repeat=3"], day.options.limit
        day.case("repeated", test, case, limit, 0, more=more, judge=told(record.judge_status), arguments=again)
        if program:
            day.case("repeated", test, case, 2 * limit, 0, under(program, "memcheck"), judge=told(judge_sanitizer))


# ---- rest ----


def other_sanitizers(day):
    sanitizer(day, ("racecheck", "initcheck", "synccheck"), SANITIZED_SMALL)


def other_probes(day):
    probes(day, ("int8", "gram"))
