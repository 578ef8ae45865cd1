# SPDX-License-Identifier: Apache-2.0
"""Draws a report as an SVG: a bar for each mark, with the marks as a line."""

from xml.sax.saxutils import escape

WIDTH, BAR, GAP, LEFT, SCALE = 900, 16, 8, 520, 140  # SCALE: pixels of "just the mark"
MET, MISSED, TEXT, LINE = "#3a7d5d", "#b5533c", "#57606a", "#8b949e"


def _text(x, y, text, size=12):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{TEXT}">{escape(text)}</text>'


def _bars(report):
    """(what, its mark) of all that has a value."""
    for line in report["rows"]:
        for mark in line.get("marks", ()):
            if mark["value"] is not None:
                beside = f" / {mark['peer']}" if mark["peer"] else ""
                yield f"{line['name']}{beside}: {line['unit']}", mark


def draw(report):
    """Bars are scaled to their mark, so that one vertical line is all the marks."""
    bars = list(_bars(report))
    height = 64 + len(bars) * (BAR + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'font-family="sans-serif" role="img" aria-label="Ratios to the marks">',
             _text(8, 18, f"Measured {report['date']}; the line is the mark", 13)]
    for i, (what, mark) in enumerate(bars):
        y = 32 + i * (BAR + GAP)
        width = max(1.0, min(mark["value"] / mark["bound"] * SCALE, WIDTH - LEFT - 140))
        colour = MET if mark["verdict"] == "met" else MISSED
        parts += [_text(8, y + 12, what),
                  f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
                  _text(LEFT + max(width, SCALE) + 6, y + 12, f"{mark['value']:.4g} ({mark['mark']})")]
    parts += [f'<line x1="{LEFT + SCALE}" y1="26" x2="{LEFT + SCALE}" y2="{height - 30}" stroke="{LINE}" '
              'stroke-width="1.5"/>', _text(8, height - 10, f"{report['machine']}", 11), "</svg>"]
    return "\n".join(parts) + "\n"
