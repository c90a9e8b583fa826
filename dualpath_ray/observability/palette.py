"""The colours of report and figure, light and dark: told apart by lightness too, so colour-blind readers lose nothing.

Orange is always a prefill node and blue a decode node (the Okabe-Ito pair); green is the dual path.
"""

LIGHT = {
    "paper": "#fbfaf8",
    "card": "#ffffff",
    "ink": "#1d1f24",
    "soft": "#5b606b",
    "line": "#e2dfd8",
    "track": "#f1efea",
    "prefill": "#d2700f",
    "decode": "#1f6cb0",
    "dual": "#0b7a63",
    "plain": "#a3a8b1",
    "bound": "#1d1f24",
    "wait-decision": "#d8d5cd",
    "wait-slots": "#b3b1aa",
    "read": "#a8437a",
    "wait-engine": "#7d8590",
    "prefill-compute": "#31517a",
    "alarm": "#b3261e",
}

DARK = {
    "paper": "#15171b",
    "card": "#1c1f25",
    "ink": "#eceae4",
    "soft": "#a2a7b1",
    "line": "#333840",
    "track": "#262a31",
    "prefill": "#f0953f",
    "decode": "#5aa7e6",
    "dual": "#3fc4a1",
    "plain": "#6c727d",
    "bound": "#eceae4",
    "wait-decision": "#3c4049",
    "wait-slots": "#575c66",
    "read": "#dd86b3",
    "wait-engine": "#8b929d",
    "prefill-compute": "#8fb4e0",
    "alarm": "#ff8a80",
}


def style_variables() -> str:
    """CSS that defines every colour as a custom property, for both colour schemes."""
    return (
        f":root{{color-scheme:light dark;{_declarations(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_declarations(DARK)}}}}}"
    )


def _declarations(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())
