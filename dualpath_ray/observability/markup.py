"""HTML and SVG as nested calls; text is escaped unless it is markup already. Pure."""

from html import escape
from typing import Any

_VOID = frozenset({"br", "hr", "link", "meta"})


class Markup(str):
    """Text that is HTML or SVG already and must not be escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """One element.

    Args: children: markup as it is, anything else escaped, None left out; attributes: ``class_`` for ``class``,
        ``stroke_width`` for ``stroke-width``, None left out, floats to a tenth.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Any) -> Markup:
    """Children one after the other, escaped where they are not markup."""
    return Markup("".join(c if isinstance(c, Markup) else escape(str(c)) for c in children if c is not None))


def _value(value: Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
