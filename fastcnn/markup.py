"""Pieces of HTML and SVG for notebooks and reports: escaped, self-contained, readable on light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa7700")  # of Tol's bright scheme: apart for all eyes, on light and dark
# Text and lines have the colour that the page gives to text, and grounds are transparent: so both themes do.
STYLE = """
.fastcnn{font:13px/1.45 system-ui,sans-serif;max-width:60em}
.fastcnn summary{cursor:pointer;font-weight:600}
.fastcnn .row{margin:.3em 0 0 1em}
.fastcnn .block{border:1px solid;border-radius:5px;padding:.15em .6em;margin:.2em 0;display:flex;gap:1em}
.fastcnn .block>span:first-child{flex:1}
.fastcnn .shape,.fastcnn .count{opacity:.75;font-variant-numeric:tabular-nums;white-space:nowrap}
.fastcnn .sides{display:flex;flex-wrap:wrap;gap:1em}
.fastcnn .sides>div{flex:1;min-width:14em}
.fastcnn table{border-collapse:collapse;margin:.5em 0;font-variant-numeric:tabular-nums}
.fastcnn td,.fastcnn th{text-align:right;padding:.1em .6em;border:0}
.fastcnn th{border-bottom:1px solid}
.fastcnn td:first-child,.fastcnn th:first-child{text-align:left}
.fastcnn .facts th,.fastcnn .facts td{text-align:left;vertical-align:top;border:0;overflow-wrap:anywhere}
.fastcnn .facts th{font-weight:400;opacity:.75;white-space:nowrap}
.fastcnn svg{max-width:100%;height:auto}
.fastcnn svg text{font:11px system-ui,sans-serif;fill:currentColor}
""".strip()


def text(value: Any) -> str:
    """Return a value as text of a page."""
    from html import escape  # a training that shows no page does not wait for its tables

    return escape(str(value))


def framed(body: str) -> str:
    """Return a piece for a notebook, with its style."""
    return f'<div class="fastcnn"><style>{STYLE}</style>{body}</div>'


def fold(title: str, body: str, *, opened: bool = False) -> str:
    """Return what a click opens and closes; `title` and `body` are HTML."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>{body}</details>"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of texts: the first column to the left, the others to the right."""
    heads = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def facts(rows: Iterable[tuple[Any, Any]]) -> str:
    """Return a table of names and what they stand for, both to the left."""
    lines = (f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in rows)
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


def curves(
    title: str,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    below: str = "",
    limits: tuple[float, float] | None = None,
    size: tuple[int, int] = (340, 200),
) -> str:
    """Return a picture of curves, as SVG with a text for screen readers; what is not finite is left out.

    Parameters
    ----------
    title : str
        What the vertical axis shows.
    x : sequence of float
    lines : dict of str to sequence of float
        By their labels, as long as `x`.
    below : str
        What the horizontal axis shows.
    limits : pair of float, optional
        The ends of both axes; not given: those of the values.
    size : pair of int
        Width and height.
    """
    width, height = size
    left, top, right, bottom = 54, 22, 8, 24
    finite = [value for values in lines.values() for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    high = high if high > low else low + (abs(low) or 1.0)
    first, last = (min(x), max(x)) if len(x) else (0.0, 1.0)
    if limits is not None:
        (low, high), (first, last) = limits, limits
    span = (last - first) or 1.0

    def across(value: float) -> float:
        return left + (width - left - right) * (value - first) / span

    def down(value: float) -> float:
        return height - bottom - (height - top - bottom) * (value - low) / (high - low)

    parts = [f'<text x="{left}" y="13">{text(title)}</text>']
    for value in (low, (low + high) / 2, high):
        y = down(value)
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="currentColor" opacity=".25"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value, anchor in ((first, "start"), (last, "end")) if len(x) else ():
        parts.append(f'<text x="{across(value):.1f}" y="{height - 8}" text-anchor="{anchor}">{value:.4g}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">{text(below)}</text>')
    for number, (label, values) in enumerate(lines.items()):
        points = [(across(at), down(value)) for at, value in zip(x, values, strict=True) if math.isfinite(value)]
        place = width - right - 84 * (len(lines) - number)
        parts += _curve(label, points, place, COLOURS[number % len(COLOURS)])
    label = f"{title}: {', '.join(lines)}"
    return (
        f'<svg role="img" aria-label="{text(label)}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"{''.join(parts)}</svg>"
    )


def _curve(label: str, points: Sequence[tuple[float, float]], place: int, colour: str) -> list[str]:
    """Return a line through points, marks on the first of them, and its label at `place` of the first line."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{colour}"/>' for x, y in points[:200]),
        f'<text x="{place + 12}" y="13">{text(label)}</text>',
        f'<path d="M{place} 9h9" stroke="{colour}" stroke-width="3"/>',
    ]
