# SPDX-License-Identifier: Apache-2.0
"""Draws a report as an SVG: a bar for each ratio, with the mark as a line."""

from xml.sax.saxutils import escape

WIDTH, BAR, GAP, LEFT, SCALE = 860, 16, 8, 500, 140  # SCALE: pixels of "just the mark"
MET, MISSED, TEXT, LINE = "#3a7d5d", "#b5533c", "#57606a", "#8b949e"


def _text(x, y, text, size=12):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{TEXT}">{escape(text)}</text>'


def draw(report):
    """Bars are scaled to their mark, so that one vertical line is all the marks."""
    lines = [line for line in report["rows"] if "ratio" in line and line["mark"]]
    height = 64 + len(lines) * (BAR + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'font-family="sans-serif" role="img" aria-label="Ratios to the marks">',
             _text(8, 18, f"Measured {report['date']}; the line is the mark", 13)]
    for i, line in enumerate(lines):
        y = 32 + i * (BAR + GAP)
        width = max(1.0, min(line["ratio"] / line["mark"] * SCALE, WIDTH - LEFT - 70))
        colour = MET if line["verdict"] == "met" else MISSED
        mark = f"{'at least' if line['at_least'] else 'at most'} {line['mark']:g}"
        parts += [_text(8, y + 12, line["work"]),
                  f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
                  _text(LEFT + max(width, SCALE) + 6, y + 12, f"{line['ratio']:.2g} ({mark})")]
    parts += [f'<line x1="{LEFT + SCALE}" y1="26" x2="{LEFT + SCALE}" y2="{height - 30}" stroke="{LINE}" '
              'stroke-width="1.5"/>', _text(8, height - 10, f"{report['machine']}", 11), "</svg>"]
    return "\n".join(parts) + "\n"
