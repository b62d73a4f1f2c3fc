#!/usr/bin/env python3
"""Draws recall against queries a second from JSON lines, as one SVG.

    plot.py OUT.svg RESULTS.jsonl... [--data NAME] [--key qps1_single] [--from 0.8]

The lines are those that `ann_benchmark --out` writes; results of other
libraries in the same form can stand beside them. Points of one library and
one search breadth are joined by their medians. Standard library only.
"""

import argparse
import collections
import json
import math
import statistics
import xml.sax.saxutils

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 46, 52
OURS = "#d9480f"
KEYS = ["qps1_single", "qps1_batch", "qps2_batch"]
OTHERS = ["#1c7ed6", "#2f9e44", "#7048e8", "#0c8599", "#868e96", "#c2255c", "#e67700", "#5c940d"]


def read(paths, name):
    """Points of one data set: {peer: {param: [record]}}."""
    peers = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line) if line.startswith("{") else {}
                if record.get("kind") == "point" and record["ds"] == (name or record["ds"]):
                    name = record["ds"]
                    peers[record["peer"]][record["param"]].append(record)
    return name, peers


def front(points):
    """The points that no other beats in both recall and speed."""
    best, kept = 0.0, []
    for recall, speed in sorted(points, reverse=True):
        if speed > best:
            best = speed
            kept.append((recall, speed))
    return kept[::-1]


def curve(by_param, key):
    median = lambda records, field: statistics.median(r[field] for r in records)
    usable = ([r for r in records if r.get(key)] for records in by_param.values())
    return front([(median(records, "recall"), median(records, key)) for records in usable if records])


class Chart:
    def __init__(self, curves, least):
        speeds = [s for points in curves.values() for r, s in points if r >= least]
        self.least = least
        self.low = min(speeds) / 1.3
        self.high = max(speeds) * 1.3
        self.out = []

    def x(self, recall):
        return LEFT + (recall - self.least) / (1 - self.least) * (WIDTH - LEFT - RIGHT)

    def y(self, speed):
        share = math.log(speed / self.low) / math.log(self.high / self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def line(self, x1, y1, x2, y2, color="#dee2e6"):
        self.out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>')

    def text(self, x, y, text, anchor="middle", color="#495057", size=12, extra=""):
        text = xml.sax.saxutils.escape(text)
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}"{extra}>{text}</text>')

    def axes(self, title, label):
        self.text(LEFT, 24, title, "start", "#212529", 15, ' font-weight="600"')
        for tick in range(int(self.least * 20 + 0.999), 21):
            recall = tick / 20
            self.line(self.x(recall), TOP, self.x(recall), HEIGHT - BOTTOM)
            self.text(self.x(recall), HEIGHT - BOTTOM + 18, f"{recall:.2f}")
        for power in range(-1, 8):
            for digit in (1, 2, 5):
                speed = digit * 10.0**power
                if self.low <= speed <= self.high:
                    self.line(LEFT, self.y(speed), WIDTH - RIGHT, self.y(speed))
                    self.text(LEFT - 8, self.y(speed) + 4, f"{speed:,.0f}", "end")
        middle = (LEFT + WIDTH - RIGHT) / 2
        self.text(middle, HEIGHT - 12, label)

    def draw(self, points, color, thick):
        shown = [(self.x(r), self.y(s)) for r, s in points if r >= self.least]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        self.out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{thick}"/>')
        self.out.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{thick + 1}" fill="{color}"/>' for x, y in shown)
        return shown[-1]

    def labels(self, ends):
        """Names beside the right ends of the curves, moved apart where they touch."""
        last = -math.inf
        for y, name, color, weight in sorted(ends):
            last = max(y + 4, last + 16)
            self.text(WIDTH - RIGHT + 12, last, name, "start", color, 12, f' font-weight="{weight}"')

    def svg(self):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif">'
        return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *self.out, "</svg>\n"])


def picture(name, peers, key, least):
    """The SVG of {peer: {param: [record]}}; nothing when no point is to be seen."""
    curves = {peer: curve(by_param, key) for peer, by_param in peers.items()}
    curves = {peer: points for peer, points in curves.items() if points and points[-1][0] >= least}
    if not curves:
        return None
    one = next(iter(next(iter(peers.values())).values()))[0]
    chart = Chart(curves, least)
    threads = "two threads" if key.startswith("qps2") else "one thread"
    chart.axes(f"{name}: {one['n']:,} x {one['d']}, {one['metric']}", f"recall@{one['k']} against queries a second, {threads}")
    others = iter(OTHERS * 4)
    ends = []
    for peer in sorted(curves, key=lambda peer: (peer.startswith("vecino"), peer)):
        ours = peer.startswith("vecino")
        color = OURS if ours else next(others)
        _, y = chart.draw(curves[peer], color, 3 if ours else 1.5)
        ends.append((y, peer, color, 700 if ours else 400))
    chart.labels(ends)
    return chart.svg()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("results", nargs="+")
    parser.add_argument("--data", help="the data set to draw; the first one found when left out")
    parser.add_argument("--key", default="qps1_single", choices=KEYS)
    parser.add_argument("--from", dest="least", type=float, default=0.8, help="the recall at the left edge")
    options = parser.parse_args()

    name, peers = read(options.results, options.data)
    svg = picture(name, peers, options.key, options.least)
    if not svg:
        parser.error("there are no points to draw")
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(svg)


if __name__ == "__main__":
    main()
