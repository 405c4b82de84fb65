#!/usr/bin/env python3
"""Checks that the folders of src/ include each other only in the direction that docs and CMakeLists.txt state.

    check_includes.py SRC

Exit status 1 and one line per fault: an include against the direction, of a missing file, not written from src/
("folder/file.hpp"), or of a CUDA or NCCL header (those belong in cuda/). Before it looks at SRC it checks itself on
planted faults.
"""
import pathlib
import re
import sys

# The folders that each folder may include directly. It may then include all that those may include. "main" means the
# files directly in src/.
USES = {
    "core": [],
    "parallel": ["core"],
    "tasks": ["parallel"],
    "config": ["tasks"],
    "neuron": ["core"],
    "backend": ["neuron", "core"],
    "network": ["backend", "parallel"],
    "lyapunov": ["network"],
    "train": ["lyapunov", "tasks"],
    "io": ["train", "config"],
    "sequences": ["io"],
    "watching": ["io"],
    "api": ["io"],
    "commands": ["watching", "sequences", "api"],
    "main": ["commands"],
}
DEVICE_HEADER = re.compile(r"^(cuda|cub/|cublas|cusolver|cusparse|curand|nccl|nvtx|thrust/|cooperative_groups)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def reachable(folder):
    """All folders that files of `folder` may include, with itself."""
    found = {folder}
    for used in USES[folder]:
        found |= reachable(used)
    return found


def faults(folder, name, text, exists):
    """One line per forbidden include in `text`, the content of src/`name`; exists(path): whether src/ has this file."""
    if folder not in USES:
        return [f"src/{name}: folder {folder} has no place in the order; give it one in check_includes.py"]
    found = []
    for match in INCLUDE.finditer(text):
        place = f"src/{name}:{text.count(chr(10), 0, match.start(1)) + 1}"
        target = match[2]
        if DEVICE_HEADER.match(target):
            found.append(f"{place}: includes {target}; CUDA and NCCL headers belong in cuda/")
        elif match[1] == '"':
            used = target.split("/")[0]
            if not exists(target):
                found.append(f'{place}: no src/{target}; write includes of src/ as "folder/file.hpp", others as <file>')
            elif used not in reachable(folder):
                allowed = ", ".join(sorted(reachable(folder)))
                found.append(f"{place}: {folder} must not include {target}; it may use {allowed}")
    return found


def check_itself():
    def count(folder, text):
        return len(faults(folder, f"{folder}/x.hpp", text, lambda path: path.endswith(".hpp") and ".." not in path))

    assert count("network", '#include "backend/a.hpp"\n#include "core/b.hpp"\n#include <vector>') == 0
    assert count("network", '#include "network/c.hpp"') == 0
    assert count("io", '#include "config/a.hpp"\n#include "tasks/b.hpp"') == 0
    assert count("network", '#include "config/a.hpp"') == 1
    assert count("core", '#  include "parallel/a.hpp"') == 1
    assert count("neuron", '#include "backend/a.hpp"\n#include "parallel/b.hpp"') == 2
    assert count("backend", "#include <cuda_runtime.h>\n#include <nccl.h>\n#include <thrust/sort.h>") == 3
    assert count("backend", '#include "../core/view.hpp"') == 1
    assert count("train", '#include "lyapunov/missing.h"') == 1
    assert count("elsewhere", "") == 1


def main():
    check_itself()
    src = pathlib.Path(sys.argv[1])
    files = sorted(path for path in src.rglob("*") if path.suffix in (".hpp", ".cpp"))
    if not files:
        print(f"no .hpp or .cpp file under {src}; give the path of src/")
        return 1
    found = []
    for path in files:
        name = path.relative_to(src)
        folder = name.parts[0] if len(name.parts) > 1 else "main"
        found += faults(folder, name, path.read_text(), lambda target: (src / target).is_file())
    print("\n".join(found) or f"{len(files)} files of src/ include only what they may")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
