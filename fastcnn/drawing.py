"""A model as blocks, in HTML: what each layer is, the shape that it returns, its parameters; what is inside folds."""

from __future__ import annotations

from . import maps, markup
from .layers.base import Layer
from .layers.container import Container
from .typing import Shape


def draw(model: Container) -> str:
    """Return the drawing of a model, built or not."""
    shapes = {} if model.input_shape is None else maps.shapes(model)
    total = sum(array.size for array in model.parameters.values())
    known = "not built yet" if model.input_shape is None else f"{_words(model.input_shape)} in, {total:,} parameters"
    title = f"{markup.text(model.name)}: {len([*model._children()])} layers, {known}"
    return markup.framed(markup.fold(title, _rows(model, "", shapes), opened=True))


def _rows(container: Container, prefix: str, shapes: dict[str, Shape]) -> str:
    rows = []
    for row in container._inner_rows():
        blocks = "".join(_block(prefix + place, layer, shapes) for place, layer in row)
        rows.append(f"<div>{blocks or '<div class=block><span>the input itself</span></div>'}</div>")
    body = rows[0] if len(rows) == 1 else f'<div class="sides">{"".join(rows)}</div>'
    return f'<div class="row">{body}</div>'


def _block(place: str, layer: Layer, shapes: dict[str, Shape]) -> str:
    shape = f"→ {_words(shapes[place])}" if place in shapes else ""
    count = sum(array.size for array in layer.parameters.values())
    cells = f'<span class="shape">{shape}</span> <span class="count">{f"{count:,}" if count else ""}</span>'
    if isinstance(layer, Container):
        title = f"{place} {markup.text(type(layer).__name__)} {cells}"
        return markup.fold(title, _rows(layer, f"{place}.", shapes))
    return f'<div class="block"><span>{place} {markup.text(layer)}</span>{cells}</div>'


def _words(shape: Shape) -> str:
    return " × ".join(map(str, shape))
