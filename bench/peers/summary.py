#!/usr/bin/env python3
"""One table from the JSON files of bench_gpu and of the peers, with ratios: summary.py FILE...

The files of bench_gpu may be several, each with some workloads. Those of the peers have any number of workloads, too.
"""
import argparse
import json
import pathlib


def load(path):
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        print(f"{path}: {error}")
        return None


def merged(documents):
    """One document of several of bench_gpu, or of several of one peer. A later row replaces an earlier one of the same
    workload and peer. The limits are those of the document that knows most of them."""
    result, rows = dict(documents[0]), {}
    for document in documents:
        for row in document["rows"] or []:
            key = row["name"], row.get("peer")
            rows.pop(key, None)
            rows[key] = row
    result["rows"] = list(rows.values())
    if "limits" in result:
        result["limits"] = max((document["limits"] for document in documents), key=lambda limits: sum(map(bool, limits.values())))
    return result


def best(rows, name, wanted):
    """The fastest of a workload's peers that `wanted` picks: (ms, peer) or None."""
    found = [(row["median_ms"], row["peer"]) for row in rows if row["name"] == name and "median_ms" in row and wanted(row["peer"])]
    return min(found) if found else None


def cell(found, ours):
    return f"{found[0]:.3f} ({found[1]}), {found[0] / ours:.1f}x" if found and ours else "-"


def show_table(ours, rows):
    print("\n| workload | ours (ms) | spread (ms) | firing rate | bound by | share of the limit | best eager | best compiled | goal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in ours["rows"]:
        if "failed" in row:
            print(f"| {row['name']} | failed: {row['failed'].splitlines()[0]} | | | | | | | {row['goal']} |")
            continue
        ms, name, bounds = row["time"]["median_ms"], row["name"], row["bounds"]
        eager = best(rows, name, lambda peer: peer == "torch eager")
        compiled = best(rows, name, lambda peer: peer != "torch eager")
        row["best_eager"], row["best_compiled"] = eager, compiled
        share = f"{100 * bounds['share']:.1f} %"
        if row["N"] > 4096 and "share_of_bf16_third" in row:
            share += f"; {100 * row['share_of_bf16_third']:.1f} % of bf16 / 3"
        print(f"| {name} | {ms:.4f} | {row['time']['min_ms']:.4f} - {row['time']['max_ms']:.4f} | {100 * row['rate']:.1f} % | "
              f"{bounds['bound_by']} | {share} | {cell(eager, ms)} | {cell(compiled, ms)} | {row['goal']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--json", help="file for the combined results")
    options = parser.parse_args()
    found = [document for document in map(load, options.files) if document]
    of_ours, peers = [document for document in found if "limits" in document], [document for document in found if "limits" not in document]
    if not found:
        raise SystemExit(1)
    rows = [row for document in peers for row in document["rows"]]
    ours = merged(of_ours) if of_ours else None
    if ours:
        print(f"device: {ours['limits']['device'] or 'limits not measured'}; backend {ours['backend']}, precision {ours['precision']}")
    for document in peers:
        print(f"peer: {document['device']}")
    if ours:
        show_table(ours, rows)
    else:
        for row in rows:
            if "median_ms" in row:
                print(f"  {row['name']:22} {row['peer']:26} {row['median_ms']:.3f} ms")
    if any("gradient_error" in row for row in rows):
        print("\nagreement with the peers (on our spikes; tolerance 1e-3 of the norm, exponents 1e-4):")
    for row in rows:
        if "gradient_error" in row:
            text = "agrees" if row["agrees"] else "DISAGREES"
            if "lambda_error" in row:
                text += f", exponents differ by {row['lambda_error']:.1e}"
            print(f"  {row['name']:22} {row['peer']:16} {text}, gradient error {row['gradient_error']:.1e}; "
                  f"{row['spikes_differ']} of its own spikes differ"
                  + (f", the first at step {row['first_at_step']}" if row["spikes_differ"] else ""))
    failed = [row for row in rows if "failed" in row]
    for row in failed:
        print(f"  {row['name']:22} {row['peer']:26} failed: {row['failed']}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"ours": ours, "peers": rows}, indent=1))


if __name__ == "__main__":
    main()
