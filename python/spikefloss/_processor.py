"""Whether this processor has the instructions that the extension was built for. Without them it would end Python."""
from ._build import architecture


def check():
    if architecture != "x86-64-v3":
        return
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next(set(line.split()) for line in file if line.startswith("flags"))
    except (OSError, StopIteration):
        return
    missing = {"avx2", "fma", "bmi2"} - flags
    if missing:
        raise ImportError(f"this build of spikefloss needs a processor with {', '.join(sorted(missing)).upper()}; build it "
                          "with pip install . --config-settings=cmake.define.SPIKEFLOSS_ARCH=x86-64, which is slower")
