#!/usr/bin/env python3
"""Measures every kind of index on data sets and writes the guide's table and pictures.

    guide.py DIR... [--results FILE] [--guide src/choosing.md] [--pictures DIR] [--keep]

Each DIR holds a data set as `ann_benchmark` wants it. Its results go to FILE
(guide.jsonl in the target folder); with --keep those that are there are used
and nothing is measured. The table replaces what is between the two marker
comments of the guide; a picture a data set (recall against speed, and memory
against speed) is written to the folder of pictures as guide-DATA.svg.
Standard library only. About ten minutes for 60,000 rows of 784 numbers.
"""

import argparse
import json
import math
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # no folder beside the examples

import plot  # noqa: E402
import report  # noqa: E402

BEGIN, END = "<!-- guide table: begin -->", "<!-- guide table: end -->"
COLORS = ["#d9480f", "#f08c00", "#1864ab", "#1c7ed6", "#74c0fc", "#0c8599", "#2b8a3e", "#40c057", "#94d82d", "#5c940d"]
COLORS += ["#5f3dc4", "#9775fa", "#c2255c", "#495057"]
GAP = 60


def kinds(dim, metric):
    """Names, as the table has them, with the options of `ann_benchmark`."""
    parts = f"PQ{dim // 4}x4fs"
    named = ["HNSW", "HNSW_SQ8", f"HNSW_{parts}", "HNSW_RaBitQ", "IVF,Flat", "IVF,SQ8", f"IVF,{parts}r", "IVF,RaBitQ"]
    named += ["SQ8", parts, "RaBitQ"]
    kinds = {"Graph": ["--index", "graph"]}
    # Of shorter vectors the lean preset has lists.
    kinds["IVF, lean" if dim < 256 and metric != "ip" else "Graph, lean"] = ["--lean"]
    return kinds | {name: ["--index", name] for name in named} | {"Flat": ["--index", "flat"]}


def dimension(folder):
    with open(os.path.join(folder, "query.fvecs"), "rb") as file:
        return int.from_bytes(file.read(4), "little")


def measure(folder, results):
    """Appends the lines of every kind to the results, each under its name."""
    with open(os.path.join(folder, "metric")) as file:
        metric = file.read().strip()
    for name, options in kinds(dimension(folder), metric).items():
        print(f"{os.path.basename(folder.rstrip('/'))}: {name}", file=sys.stderr)
        command = ["cargo", "run", "--release", "--quiet", "--example", "ann_benchmark", "--", "--data", folder, "--k", "10"]
        out = subprocess.run(command + options, check=True, capture_output=True, text=True).stdout
        with open(results, "a", encoding="utf-8") as file:
            for line in out.splitlines():
                if line.startswith("{"):
                    file.write(json.dumps(json.loads(line) | {"peer": name}) + "\n")


def bytes_a_row(results, name):
    counted = results.of_build(name, "counted_mb")
    return None if counted is None else counted * 1e6 / results.shape["n"]


def table(sets):
    lines = ["| | at recall 0.95 | at 0.99 | bytes a record | build, s |", "|---|---|---|---|---|"]
    for data, results in sets.items():
        n, d, metric = results.shape["n"], results.shape["d"], report.METRICS[results.shape["metric"]]
        lines.append(f"| **{report.TITLES.get(data, data)}, {n:,} x {d}, {metric}** ({d * 4:,} bytes as f32) | | | | |")
        for name, by_param in results.points.items():
            front = plot.curve(by_param, "qps1_single")
            speeds = " | ".join(report.cell(front, target) for target in report.TARGETS)
            build = report.seconds(results.of_build(name, "build_s"))
            lines.append(f"| `{name}` | {speeds} | {report.rounded(bytes_a_row(results, name))} | {build} |")
    return "\n".join(lines)


class Memory(plot.Chart):
    """Bytes a record against speed, beside the first chart."""

    def __init__(self, points, left):
        super().__init__({name: [(1.0, speed)] for name, (_, speed) in points.items()}, 0.0)
        sizes = [size for size, _ in points.values()]
        self.left, self.small, self.large = left, min(sizes) / 1.15, max(sizes) * 1.15

    def x(self, size):
        share = math.log(size / self.small) / math.log(self.large / self.small)
        return self.left + share * (plot.WIDTH - plot.LEFT - plot.RIGHT)

    def axes(self, title, label):
        right = self.left + plot.WIDTH - plot.LEFT - plot.RIGHT
        self.text(self.left, 24, title, "start", "#212529", 15, ' font-weight="600"')
        for size in (100, 150, 200, 300, 400, 600, 800, 1_000, 1_200, 1_600, 2_000, 2_500, 3_200, 4_800, 6_400):
            if self.small <= size <= self.large:
                self.line(self.x(size), plot.TOP, self.x(size), plot.HEIGHT - plot.BOTTOM)
                self.text(self.x(size), plot.HEIGHT - plot.BOTTOM + 18, f"{size:,}")
        for power in range(1, 7):
            for digit in (1, 2, 5):
                speed = digit * 10.0**power
                if self.low <= speed <= self.high:
                    self.line(self.left, self.y(speed), right, self.y(speed))
                    self.text(self.left - 8, self.y(speed) + 4, f"{speed:,.0f}", "end")
        self.text((self.left + right) / 2, plot.HEIGHT - 12, label)


def picture(data, results):
    curves = {name: plot.curve(by_param, "qps1_single") for name, by_param in results.points.items()}
    colors = dict(zip(curves, COLORS * 2))
    chart = plot.Chart(curves, 0.8)
    title = report.TITLES.get(data, data)
    chart.axes(f"{title}: {results.shape['n']:,} x {results.shape['d']}", "recall@10 against queries a second, one thread")
    ends = []
    for name, points in curves.items():
        if points and points[-1][0] >= 0.8:
            _, y = chart.draw(points, colors[name], 3 if name == "Graph" else 1.5)
            ends.append((y, name, colors[name], 700 if name == "Graph" else 400))
    chart.labels(ends)
    known = {name: (bytes_a_row(results, name), report.at_recall(points, 0.95)[0]) for name, points in curves.items()}
    known = {name: point for name, point in known.items() if None not in point}
    memory = Memory(known, plot.WIDTH + GAP)
    memory.axes("The same", "bytes a record against queries a second at recall 0.95")
    places = []
    for name, (size, speed) in sorted(known.items(), key=lambda item: -item[1][1]):
        x, y = memory.x(size), memory.y(speed)
        memory.out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colors[name]}"><title>{name}</title></circle>')
        below = [at + 12 for near, at in places if abs(near - x) < 120 and abs(at - y) < 12]
        places.append((x, max(below, default=y)))
        memory.text(x + 8, places[-1][1] + 4, name, "start", colors[name], 11)
    width = 2 * plot.WIDTH + GAP - plot.LEFT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {plot.HEIGHT}" font-family="system-ui, sans-serif">'
    back = f'<rect width="{width}" height="{plot.HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head, back, *chart.out, *memory.out, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--results", default=os.path.join("target", "guide.jsonl"))
    parser.add_argument("--guide", default=os.path.join("src", "choosing.md"))
    parser.add_argument("--pictures", default=os.path.join("examples", "ann_benchmark"))
    parser.add_argument("--keep", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.keep:
        open(options.results, "w", encoding="utf-8").close()
        for folder in options.folders:
            measure(folder, options.results)
    sets = report.read([options.results], 10, [])
    report.replace(options.guide, table(sets), (BEGIN, END))
    for data, results in sets.items():
        with open(os.path.join(options.pictures, f"guide-{data}.svg"), "w", encoding="utf-8") as file:
            file.write(picture(data, results))


if __name__ == "__main__":
    main()
