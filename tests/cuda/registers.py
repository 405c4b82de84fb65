#!/usr/bin/env python3
"""The registers of a thread of every kernel, from the output of a build: the table that the emulated device reads, so that
it refuses a launch that a device would refuse.

    cmake -S . -B build/registers -DSPIKEFLOSS_CUDA=ON -DSPIKEFLOSS_CUDA_RESOURCES=ON
    cmake --build build/registers --target spikefloss | tests/cuda/registers.py > tests/cuda_emulation/registers.txt

    registers.py --check TABLE      every kernel of cuda/ is in the table, and no other
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def simple(name):
    """The name of a kernel without namespaces, arguments, result and spaces."""
    found = re.search(r"(\w+_kernel)(<[^(]*>)?\(", name.replace("(anonymous namespace)::", ""))
    return found[1] + (found[2] or "").replace(" ", "") if found else None


def table(lines):
    """{kernel: {architecture: registers}}"""
    kernels, now = {}, None
    for line in lines:
        entry = re.search(r"Compiling entry function '(\S+)' for 'sm_(\d+)'", line)
        if entry:
            now = entry.groups()
        used = re.search(r"Used (\d+) registers", line)
        if used and now:
            name = simple(subprocess.run(["c++filt", now[0]], capture_output=True, text=True, check=True).stdout)
            if name:
                kernels.setdefault(name, {})[int(now[1])] = int(used[1])
            now = None
    return kernels


def check(path):
    """Compares the names with those of the sources."""
    known = {line.split()[0].split("<")[0] for line in path.read_text().splitlines() if line and line[0] != "#"}
    written = set()
    for file in [*ROOT.glob("cuda/*.cu"), *ROOT.glob("cuda/*.cuh")]:
        written |= set(re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+_kernel)\b", file.read_text()))
    if known != written:
        sys.exit(f"{path}: not in the table: {sorted(written - known)}; not in cuda/: {sorted(known - written)}. "
                 "Make the table anew: see tests/cuda/registers.py")


def main():
    if sys.argv[1:2] == ["--check"]:
        return check(pathlib.Path(sys.argv[2]))
    kernels = table(sys.stdin)
    architectures = sorted({a for registers in kernels.values() for a in registers})
    print("# Registers of a thread of every kernel (tests/cuda/registers.py), by compute capability:")
    print("# kernel " + " ".join(map(str, architectures)))
    for name in sorted(kernels):
        print(name, *(kernels[name].get(a, 0) for a in architectures))


main()
