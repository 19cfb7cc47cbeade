"""Pictures as SVG: boxes in columns or in a tree, with lines between them, and bars along a time.

Colours come from the style sheet, by class; a screen reader gets the title, and the page has the same as a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

HEIGHT = 30
GAP = 10
LETTER = 7.4
"""Width of a letter of a box, as the style sheet has them."""
_SVG = Markup(
    '<svg class="picture {}" viewBox="0 0 {} {}" width="{}" height="{}" role="group" aria-label="{}">{}</svg>'
)
_BOX = Markup(
    '<g class="box {kind}" data-id="{id}">{begin}<title>{title}</title><rect x="{x}" y="{y}" width="{width}" '
    'height="{height}" rx="6"/><text x="{text_x}" y="{text_y}">{text}</text>{end}</g>'
)
_LINE = Markup('<path class="line {}" d="{}" data-from="{}" data-to="{}"/>')


@dataclass(frozen=True, kw_only=True)
class Box:
    """Something with a name."""

    id: str
    text: str
    kind: str
    """Its class in the style sheet."""
    title: str = ""
    href: str = ""


@dataclass(frozen=True)
class _Placed:
    box: Box
    x: float
    y: float
    width: float

    def drawn(self) -> Markup:
        begin = Markup('<a href="{}">').format(self.box.href) if self.box.href else Markup()
        return _BOX.format(
            kind=self.box.kind, id=self.box.id, begin=begin, title=self.box.title or self.box.text, x=self.x, y=self.y,
            width=self.width, height=HEIGHT, text_x=self.x + 10, text_y=self.y + HEIGHT / 2 + 4.5,
            text=_short(self.box.text, int((self.width - 16) / LETTER)), end=Markup("</a>") if self.box.href else "",
        )  # fmt: skip


def columns(title: str, boxes: Sequence[Sequence[Box]], lines: Iterable[tuple[str, str]]) -> Markup:
    """Return boxes in columns, each box at the height of what it is connected with, where there is room.

    Args:
        title: what it shows.
        boxes: of each column, from left to right.
        lines: pairs of ids; a line to a column further left is drawn as one that leads back.
    """
    lines = list(dict.fromkeys(lines))
    ordered = _ordered([list(each) for each in boxes], lines)
    width = min(max((len(box.text) for column in boxes for box in column), default=10), 30) * LETTER + 20
    tallest = max((len(each) for each in ordered), default=0)
    height = max(tallest * (HEIGHT + GAP) + GAP, HEIGHT)
    placed: dict[str, _Placed] = {}
    for place, column in enumerate(ordered):
        step = (height - GAP) / max(len(column), 1)
        for row, box in enumerate(column):
            y = GAP + step * row + (step - HEIGHT - GAP) / 2
            placed[box.id] = _Placed(box, 1 + place * (width + 90), round(y, 1), width)
    drawn = [_curve(placed[start], placed[end]) for start, end in lines if start in placed and end in placed]
    whole = len(ordered) * (width + 90) - 90 + 2
    return _svg("columns", title, whole, height + GAP, [*drawn, *(each.drawn() for each in placed.values())])


def tree(title: str, nodes: Iterable[tuple[int, Box]]) -> Markup:
    """Return boxes as a tree that grows to the right.

    Args:
        title: what it shows.
        nodes: in the order in which they stand below each other, each with its depth.
    """
    placed: list[_Placed] = []
    drawn: list[Markup] = []
    above: list[_Placed] = []
    for row, (depth, box) in enumerate(nodes):
        each = _Placed(box, 1 + depth * 28, GAP + row * (HEIGHT + GAP), min(len(box.text), 60) * LETTER + 34)
        del above[depth:]
        if above:
            parent = above[-1]
            x, middle = parent.x + 14, each.y + HEIGHT / 2
            path = f"M{x} {parent.y + HEIGHT} V{middle} H{each.x}"
            drawn.append(_LINE.format("", path, parent.box.id, box.id))
        above.append(each)
        placed.append(each)
    width = max((each.x + each.width for each in placed), default=100) + 2
    height = len(placed) * (HEIGHT + GAP) + GAP
    return _svg("tree", title, width, height, [*drawn, *(each.drawn() for each in placed)])


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Something that lasts, or a moment if it begins and ends at once."""

    text: str
    kind: str
    begin: float
    """Seconds."""
    end: float
    title: str = ""


@dataclass
class Scale:
    """Places moments between the first and the last on a line: evenly by rank where they are far apart in time.

    Args:
        moments: seconds; all that are to be placed.
    """

    moments: Iterable[float]
    places: Mapping[float, float] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(set(self.moments))
        whole = (ordered[-1] - ordered[0]) if len(ordered) > 1 else 1.0
        last = max(len(ordered) - 1, 1)
        by_rank = [rank / last for rank in range(len(ordered))]
        by_time = [(each - ordered[0]) / (whole or 1.0) for each in ordered]
        # Half of each: days of waiting leave room for what happened within one second.
        self.places = {each: (a + b) / 2 for each, a, b in zip(ordered, by_rank, by_time, strict=True)}


def bars(title: str, rows: Sequence[Bar], *, width: float = 900, label: float = 230) -> Markup:
    """Return bars along a time, a row for each."""
    scale = Scale([at for bar in rows for at in (bar.begin, bar.end)])
    drawn = []
    for row, bar in enumerate(rows):
        y = GAP + row * (HEIGHT - 4)
        x = label + scale.places[bar.begin] * (width - label - 20)
        long = max(label + scale.places[bar.end] * (width - label - 20) - x, 8)
        drawn.append(
            Markup(
                '<g class="bar {}"><title>{}</title><text x="0" y="{}">{}</text><rect x="{:.1f}" y="{}" '
                'width="{:.1f}" height="{}" rx="4"/></g>'
            ).format(bar.kind, bar.title or bar.text, y + 15, _short(bar.text, int(label / LETTER)), x, y, long, 18)
        )
    return _svg("bars", title, width, GAP * 2 + len(rows) * (HEIGHT - 4), drawn)


def _curve(start: _Placed, end: _Placed) -> Markup:
    x1, y1, x2, y2 = start.x + start.width, start.y + HEIGHT / 2, end.x, end.y + HEIGHT / 2
    if x2 > x1:
        bend = (x2 - x1) / 2
        path = f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        return _LINE.format("", path, start.box.id, end.box.id)
    x1, x2 = start.x, end.x + end.width
    bend = max((x1 - x2) / 2, 40)
    path = f"M{x1:.1f} {y1:.1f} C{x1 - bend:.1f} {y1 + 30:.1f} {x2 + bend:.1f} {y2 + 30:.1f} {x2:.1f} {y2:.1f}"
    return _LINE.format("back", path, start.box.id, end.box.id)


def _ordered(boxes: list[list[Box]], lines: Sequence[tuple[str, str]]) -> list[list[Box]]:
    """Return the columns with each box near those that it is connected with (the barycenter heuristic)."""
    beside: dict[str, list[str]] = {}
    for start, end in lines:
        beside.setdefault(start, []).append(end)
        beside.setdefault(end, []).append(start)
    for _ in range(4):
        for column in boxes:
            place = {
                box.id: row / max(len(each) - 1, 1)
                for each in boxes
                for row, box in enumerate(each)
                if each is not column
            }
            own = {box.id: row / max(len(column) - 1, 1) for row, box in enumerate(column)}

            def middle(box: Box, place: Mapping[str, float] = place, own: Mapping[str, float] = own) -> float:
                near = [place[other] for other in beside.get(box.id, ()) if other in place]
                return sum(near) / len(near) if near else own[box.id]

            column.sort(key=middle)
    return boxes


def _svg(kind: str, title: str, width: float, height: float, parts: Iterable[Markup]) -> Markup:
    return _SVG.format(kind, round(width), round(height), round(width), round(height), title, Markup("").join(parts))


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(letters - 1, 1)] + "…"
