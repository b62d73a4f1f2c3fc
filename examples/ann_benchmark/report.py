#!/usr/bin/env python3
"""Writes the comparison of the README from JSON lines: table and pictures.

    report.py RESULTS.jsonl... [--readme README.md] [--pictures DIR] [--only PEER,...]
              [--name PEER=TEXT]... [--title DATA=TEXT]... [--k 10] [--key qps1_single]

The lines are those that `ann_benchmark --out` writes; results of other
libraries in the same form stand beside them. The table (queries a second at
recall 0.95 and 0.99, log-interpolated on the Pareto front of the medians;
seconds to build; MB) replaces what is between the two marker comments of the
README; without --readme it goes to the terminal. One picture a data set is
written to DIR as DATA.svg. Standard library only.
"""

import argparse
import collections
import json
import math
import os
import statistics
import sys

sys.dont_write_bytecode = True  # no folder beside the examples

import plot  # noqa: E402

BEGIN, END = "<!-- speed table: begin -->", "<!-- speed table: end -->"
TARGETS = (0.95, 0.99)

# Titles and names of what is usually measured; others keep their own.
TITLES = {
    "fashion-mnist-784": "Fashion-MNIST",
    "arxiv-minilm-384": "MiniLM sentence vectors",
    "glove-6b-50": "GloVe words",
    "movielens-small-64": "MovieLens factors",
}
NAMES = {
    "vecino-graph": "vecino, Graph",
    "vecino-hnsw": "vecino, HNSW",
    "vecino-flat": "vecino, Flat",
    "rabitq-symqg-raw": "SymphonyQG",
    "rabitq-symqg-8b": "SymphonyQG, 8-bit vectors",
    "hnswlib-M16": "hnswlib, M = 16",
    "hnswlib-M32": "hnswlib, M = 32",
    "faiss-HNSW32": "faiss, HNSW32",
    "glass-HNSW-SQ8U": "Glass, SQ8",
    "glass-HNSW-SQ8U_FP32": "Glass, SQ8 refined",
    "glass-HNSW-SQ4U_FP32": "Glass, SQ4 refined",
    "usearch-bf16": "usearch, bf16",
}
METRICS = {"l2": "L2", "cos": "cosine", "ip": "inner product"}


def is_ours(peer):
    return peer.startswith("vecino")


class Results:
    """What the files say of one data set."""

    def __init__(self):
        self.shape = None
        self.points = collections.defaultdict(lambda: collections.defaultdict(list))
        self.builds = collections.defaultdict(list)

    def add(self, record):
        self.shape = self.shape or record
        if record["kind"] == "point":
            self.points[record["peer"]][record["param"]].append(record)
        elif record["threads"] == 2:
            self.builds[record["peer"]].append(record)

    def of_build(self, peer, field):
        values = [build[field] for build in self.builds[peer] if build.get(field) is not None]
        return statistics.median(values) if values else None


def read(paths, k, only):
    """{data set: Results}, in the order of the files."""
    sets = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line) if line.startswith("{") else {}
                known = record.get("kind") in ("build", "point") and record.get("k", k) == k
                if known and (not only or record["peer"] in only):
                    sets.setdefault(record["ds"], Results()).add(record)
    return {name: results for name, results in sets.items() if results.points}


def at_recall(front, target):
    """Queries a second at a recall, and the recall if that is beyond it; the
    front ascends by recall."""
    if not front or front[-1][0] < target:
        return None, None
    before = None
    for recall, speed in front:
        if recall >= target:
            break
        before = (recall, speed)
    if before is None:
        return speed, recall
    share = (target - before[0]) / (recall - before[0])
    return math.exp(math.log(before[1]) * (1 - share) + math.log(speed) * share), None


def rounded(value):
    """Three digits: more would be noise."""
    if value is None:
        return "-"
    unit = 10 ** max(math.floor(math.log10(value)) - 2, 0) if value > 0 else 1
    return f"{round(value / unit) * unit:,}"


def cell(front, target):
    speed, beyond = at_recall(front, target)
    note = "" if beyond is None or beyond < target + 0.004 else f" (its least recall: {beyond:.3f})"
    return rounded(speed) + note


def seconds(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def rows(results, names, key):
    """The lines of one data set: ours first, then the others, faster ones first."""
    fronts = {peer: plot.curve(by_param, key) for peer, by_param in results.points.items()}
    speed = lambda peer: at_recall(fronts[peer], TARGETS[0])[0] or 0.0
    for peer in sorted(fronts, key=lambda peer: (not is_ours(peer), -speed(peer), peer)):
        values = [cell(fronts[peer], target) for target in TARGETS]
        name, mark = names.get(peer, peer), "**" if is_ours(peer) else ""
        values = [f"{mark}{value}{mark}" for value in values]
        build, memory = results.of_build(peer, "build_s"), results.of_build(peer, "rss_mb")
        megabytes = "-" if memory is None else f"{memory:,.0f}"
        yield f"| {mark}{name}{mark} | {' | '.join(values)} | {seconds(build)} | {megabytes} |"


def table(sets, names, titles, key):
    lines = ["| | " + " | ".join(f"at recall {target}" for target in TARGETS) + " | build, s | memory, MB |"]
    lines.append("|---|" + "---|" * (len(TARGETS) + 2))
    for name, results in sets.items():
        n, d = results.shape["n"], results.shape["d"]
        metric = METRICS.get(results.shape["metric"], results.shape["metric"])
        raw = n * d * 4 / 1e6
        title = f"{titles.get(name, name)}, {n:,} x {d}, {metric}"
        lines.append(f"| **{title}** (vectors as f32: {raw:.{0 if raw >= 10 else 1}f} MB)" + " |" * 5)
        lines.extend(rows(results, names, key))
    return "\n".join(lines)


def replace(path, text, markers=(BEGIN, END)):
    """Puts the text between the marker comments of a file."""
    with open(path, encoding="utf-8") as file:
        whole = file.read()
    before, begin, rest = whole.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        sys.exit(f"{path}: no '{markers[0]}' with '{markers[1]}' after it")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n{text}\n{end}{after}")


def pairs(texts):
    return dict(text.partition("=")[::2] for text in texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--readme", help="the file whose table is replaced")
    parser.add_argument("--pictures", help="the folder for the pictures")
    parser.add_argument("--only", default="", help="peers to show, with commas between")
    parser.add_argument("--name", action="append", default=[], help="what a peer is called")
    parser.add_argument("--title", action="append", default=[], help="what a data set is called")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--key", default="qps1_single", choices=plot.KEYS)
    parser.add_argument("--from", dest="least", type=float, default=0.8, help="the recall at the left edge")
    options = parser.parse_args()

    names, titles = NAMES | pairs(options.name), TITLES | pairs(options.title)
    sets = read(options.results, options.k, [peer for peer in options.only.split(",") if peer])
    if not sets:
        parser.error("there are no points to show")
    text = table(sets, names, titles, options.key)
    if options.readme:
        replace(options.readme, text)
    else:
        print(text)
    for name, results in sets.items() if options.pictures else ():
        named = {names.get(peer, peer): by_param for peer, by_param in results.points.items()}
        picture = plot.picture(titles.get(name, name), named, options.key, options.least)
        if picture:
            with open(os.path.join(options.pictures, f"{name}.svg"), "w", encoding="utf-8") as file:
                file.write(picture)


if __name__ == "__main__":
    main()
