"""The live page as one file: style and script are inside it, and it asks nobody but its own server. Pure but for its own files."""

import json
from importlib import resources

from dualpath_ray.observability.palette import DARK, LIGHT
from dualpath_ray.ui.access import CHANGE_HEADER
from dualpath_ray.ui.history import KEPT_S
from dualpath_ray.ui.view import DUAL_PATH, SINGLE_PATH


def live_page(nonce: str) -> str:
    """HTML. Args: nonce: of the script, so that the browser runs no other (``content_policy``)."""
    constants = {"change": CHANGE_HEADER, "kept_s": KEPT_S, "single": SINGLE_PATH, "dual": DUAL_PATH}
    parts = {
        "{{style}}": theme_style() + _file("page.css"),
        "{{nonce}}": nonce,
        "{{constants}}": json.dumps(constants),
        "{{script}}": _file("page.js"),
    }
    html = _file("page.html")
    for mark, text in parts.items():
        html = html.replace(mark, text)
    return html


def theme_style() -> str:
    """The report's colours: the system's choice of light or dark, unless the reader has chosen."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in colours.items()) for colours in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light;{light}}}"
        f'@media (prefers-color-scheme:dark){{:root:not([data-theme="light"]){{color-scheme:dark;{dark}}}}}'
        f':root[data-theme="dark"]{{color-scheme:dark;{dark}}}'
    )


def content_policy(nonce: str) -> str:
    """What the browser lets the page do: its own style, its own script, requests to its own server."""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )


REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"


def _file(name: str) -> str:
    return resources.files("dualpath_ray.ui").joinpath(name).read_text("utf-8")
