#!/usr/bin/env python3
"""One peer on one workload, one step for each request, so that programs can run alternately: worker.py PEER CASE
--threads n.

The protocol is that of bench_cpu. The first line is {"ready": true, version, note, and for exact peers the difference
of its gradient from ours}. Each `step` or `memory` on the standard input gives one line of JSON. A failure gives
{"failed": reason}.
"""
import argparse
import importlib.metadata
import json
import os
import sys
import time


def megabytes(key):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024.0
    return 0.0


def before_the_workload():
    """Returns the resident size in MB. The largest size is counted from here on."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # then memory used before counts too
    return megabytes("VmRSS")


def torch_peer(case, threads, compiled=False, own_product=False):
    import torch
    import torch_step

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    before = before_the_workload()
    model = torch_step.Model(case, "cpu", own_product)
    checked = torch_step.check(model)
    step = torch_step.compiled_step(model) if compiled else model.step_of()
    note = "exact equations"
    if compiled:
        note += "; the step compiled, the loop over time in Python"
    elif case.degree:
        note += "; " + ("a function of its own for W s, W' g and the gradient, with both orders of the synapses" if own_product
                        else "torch.sparse.mm of a CSR tensor")
    return lambda: model.run(step), {"version": torch.__version__, "note": note, **checked}, before


def jax_peer(case, threads, form):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax_step

    jax.config.update("jax_default_matmul_precision", "highest")
    before = before_the_workload()
    model = jax_step.Model(case, jax.devices("cpu")[0], form)
    checked = model.check()
    return (lambda: jax.block_until_ready(model.step(model.p, model.data)),
            {"version": importlib.metadata.version("brainevent") if form == "brainevent" else jax.__version__, "note": "exact equations; lax.scan under jit" + NOTES.get(form, ""), **checked}, before)


def library_peer(case, threads, name):
    import torch
    import library_step

    torch.set_num_threads(threads)
    if case.kind != "training":
        raise RuntimeError("it has no flossing step")
    before = before_the_workload()
    step, note = getattr(library_step, name)(case)
    return step, {"version": importlib.metadata.version(name), "note": note}, before


NOTES = {"jax-bcoo": "; W_rec is a BCOO", "jax-gather": "; W_rec s by gathers of the sources of each target",
         "brainevent": "; W_rec is its CSR, spikes its BinaryArray"}
PEERS = {"torch-eager": torch_peer,
         "torch-compiled": lambda case, threads: torch_peer(case, threads, compiled=True),
         "torch-csr": torch_peer,
         "torch-own": lambda case, threads: torch_peer(case, threads, own_product=True),
         "jax-scan": lambda case, threads: jax_peer(case, threads, "jax-scan"),
         **{form: lambda case, threads, form=form: jax_peer(case, threads, form) for form in NOTES},
         "snntorch": lambda case, threads: library_peer(case, threads, "snntorch"),
         "norse": lambda case, threads: library_peer(case, threads, "norse"),
         "spikingjelly": lambda case, threads: library_peer(case, threads, "spikingjelly")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("case", help="folder that bench_cpu --export wrote")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    # Only answers go to the driver. The output of libraries goes to the standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(what):
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        import common

        step, about, before = PEERS[options.peer](common.Case(options.case), options.threads)
        for _ in range(2):  # warm up; compile
            start = time.perf_counter()
            step()
            if time.perf_counter() - start > 10.0:
                break
        answer({"ready": True, **about})
        for line in sys.stdin:
            if line.strip() == "memory":
                answer({"peak_mb": megabytes("VmHWM"), "before_mb": before})
            else:
                start = time.perf_counter()
                step()
                answer({"seconds": time.perf_counter() - start})
    except Exception as error:
        text = str(error).strip()
        answer({"failed": f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:300]})
        raise


if __name__ == "__main__":
    main()
