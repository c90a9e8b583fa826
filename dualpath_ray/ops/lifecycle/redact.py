"""Secrets taken out of what is given away. Pure."""

import re
from collections.abc import Iterable, Mapping

HIDDEN = "[removed]"
_LEAST = 6  # shorter values are no secrets, and stand in other words
_WORDS = "token|secret|secret[_-]?key|password|passwd|credentials?|access[_-]?key|api[_-]?key|private[_-]?key"
_SECRET_NAME = re.compile(rf"(?:^|_)(?:{_WORDS})$", re.IGNORECASE)  # not a number of tokens, nor a file's name
_IN_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s@?]+@", re.IGNORECASE)  # a secret may have a slash
_NAMED = rf"(?:[\w-]*(?:[_-]|(?<=[a-z])(?=[A-Z])))?(?:{_WORDS})"
_VALUE = rf"\"[^\"]+\"|'[^']+'|[^\s\"'&,;}}]{{{_LEAST},}}"
_ASSIGNED = re.compile(rf"((?<!\w){_NAMED}[\"']?(?:\s*[=:]\s*|\s+)b?)({_VALUE})", re.IGNORECASE)
_NUMBER = re.compile(r"[\d.]+$")
_AUTHORISATION = re.compile(r"((?:Bearer|Basic)\s+)\S+", re.IGNORECASE)
_KNOWN = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{12,})")  # of the hub, of AWS


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Values of variables whose names say that they are secret."""
    return {value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= _LEAST}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these values, credentials in addresses, and values that are called a secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    text = _AUTHORISATION.sub(rf"\1{HIDDEN}", text)
    text = _KNOWN.sub(HIDDEN, text)
    return _ASSIGNED.sub(lambda m: m[0] if _NUMBER.match(m[2]) else f"{m[1]}{HIDDEN}", text)
