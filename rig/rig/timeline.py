# SPDX-License-Identifier: GPL-2.0
"""The demos' picture: frames written to memory against time, as an SVG.

It must read in grey and without colour vision: the lines differ by their style and carry their
names, the phases are named beside their marks.
"""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 110, 60
TITLE = "Frames that a NIC wrote to memory while the kernel was replaced"
BAND = ("kexec", "user space", "no user space")     # from where to where, and what it is
PHASES = [("preserve", "preserve"), ("kexec", "kexec"), ("first look", "new kernel scans PCI"),
          ("user space", "new user space"), ("driver", "device retrieved"),
          ("finish", "finish")]


def thin(times: list[float], step: int = 5) -> list[tuple[float, int]]:
    """Points of a cumulative count: every fifth, and both ends of each pause."""
    if not times:
        return []
    pause = 4 * (times[-1] - times[0]) / len(times)
    points = []
    for n, time in enumerate(times):
        gap_before = n and time - times[n - 1] > pause
        gap_after = n + 1 < len(times) and times[n + 1] - time > pause
        if gap_before:
            points.append((time, n))
        if n % step == 0 or gap_after or n == len(times) - 1:
            points.append((time, n + 1))
    return points


def draw(kept: Any, control: Any, title: str = TITLE, phases: list[tuple[str, str]] | None = None,
         band: tuple[str, str, str] = BAND, seen: list[tuple[float, int]] | None = None) -> str:
    """The SVG of a run and its control; time 0 is the jump of each.

    `seen` is what became of the frames elsewhere, at host times.
    """
    zero, other = kept.marks["kexec"], control.marks["kexec"]
    sent = thin([t / 1e9 - zero for t in kept.sent_at])
    live = thin([t - zero for t in kept.trace.dma()])
    dead = thin([t - other for t in control.trace.dma()])
    end = kept.sent_at[-1] / 1e9 - zero
    dead = [(t, n) for t, n in dead if t <= end]
    start = min(points[0][0] for points in (sent, live, dead) if points)
    dead.append((end, dead[-1][1] if dead else 0))
    top = max(1, sent[-1][1], live[-1][1])

    def x(time: float) -> float:
        return LEFT + (time - start) / (end - start) * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - count / top * (HEIGHT - TOP - BOTTOM)

    def path(points: list[tuple[float, int]], style: str) -> str:
        line = " ".join(f"{x(t):.1f},{y(n):.1f}" for t, n in points)
        return f'<polyline points="{line}" fill="none" {style}/>'

    def text(left: float, down: float, words: str, extra: str = "") -> str:
        return f'<text x="{left:.1f}" y="{down:.1f}" {extra}>{escape(words)}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           'font-family="sans-serif" font-size="13">',
           "<title>Frames received across a live update</title>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           text(LEFT, 22, title, 'font-size="16" font-weight="bold"')]

    step = next(s for s in (100, 200, 500, 1000, 2000, 5000, 10000, 10 ** 9) if top / s <= 6)
    for count in range(0, top + 1, step):
        out.append(f'<path d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(text(LEFT - 8, y(count) + 4, f"{count}", 'text-anchor="end"'))
    for second in range(int(start), int(end) + 1):
        out.append(text(x(second), HEIGHT - BOTTOM + 18, f"{second}", 'text-anchor="middle"'))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "seconds after the kexec call",
                    'text-anchor="middle"'))
    out.append(text(0, 0, "frames", f'transform="translate(22 {(TOP + HEIGHT - BOTTOM) / 2}) '
                    'rotate(-90)" text-anchor="middle"'))

    since, until, name = band
    if until in kept.marks:
        left, right = x(kept.marks[since] - zero), x(kept.marks[until] - zero)
        out.append(f'<rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                   f'height="{HEIGHT - TOP - BOTTOM}" fill="#000" fill-opacity="0.08"/>')
        out.append(text((left + right) / 2, HEIGHT - BOTTOM - 8, name,
                        'text-anchor="middle" font-size="12"'))
    level = 0
    for name, label in phases or PHASES:
        if name not in kept.marks:
            continue
        at = x(kept.marks[name] - zero)
        down = 44 + 15 * (level % 4)
        level += 1
        out.append(f'<path d="M{at:.1f} {down + 4}V{HEIGHT - BOTTOM}" stroke="#666" '
                   'stroke-dasharray="2 3"/>')
        out.append(text(at + 3, down, label, 'font-size="12"'))

    out.append(path(sent, 'stroke="#000" stroke-width="7" stroke-opacity="0.15"'))
    if seen:
        out.append(path([(max(t - zero, start), n) for t, n in seen if t - zero <= end],
                        'stroke="#000" stroke-width="1.5" stroke-dasharray="2 4"'))
        out.append(text(LEFT + 12, y(top * 0.84), "dotted line: frames seen by the guest"))
    out.append(path(live, 'stroke="#000" stroke-width="2"'))
    out.append(path(dead, 'stroke="#000" stroke-width="2" stroke-dasharray="9 5"'))
    out.append(text(x(end * 0.7), y(top * 0.86), "device preserved",
                    'text-anchor="end" font-weight="bold"'))
    out.append(text(LEFT + 12, y(top * 0.9), "wide grey band: frames sent"))
    out.append(text(x(end) - 8, y(dead[-1][1]) - 8, "control: device not preserved",
                    'text-anchor="end" font-weight="bold"'))
    out.append("</svg>")
    return "\n".join(out) + "\n"
