"""Secrets taken out of what is given away. Pure."""

import re
from collections.abc import Iterable, Mapping

HIDDEN = "[removed]"
_LEAST = 6  # shorter values are no secrets, and stand in other words
_WORDS = "token|secret|secret_key|password|passwd|credentials?|access_key|api_key|private_key"
_SECRET_NAME = re.compile(rf"(?:^|_)(?:{_WORDS})$", re.IGNORECASE)  # not a number of tokens, nor a file's name
_IN_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_ASSIGNED = re.compile(rf"\b((?:\w*_)?(?:{_WORDS})[\"']?\s*[=:]\s*[\"']?)([^\s\"'&,;}}]{{{_LEAST},}})", re.IGNORECASE)
_BEARER = re.compile(r"(Bearer\s+)\S+", re.IGNORECASE)


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Values of variables whose names say that they are secret."""
    return {value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= _LEAST}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these values, credentials in addresses, and values that are called a secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)
