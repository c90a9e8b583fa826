"""Units as people write them. This module alone knows the factor 8 between bits and bytes."""

import math
import re

_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_RATE = re.compile(r"^([0-9]*\.?[0-9]+)\s*([kmgt]?i?)(bps|bit/s|b/s|B/s)$", re.IGNORECASE)
_SIZE = re.compile(r"^([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?$", re.IGNORECASE)
_FLOPS = re.compile(r"^([0-9]*\.?[0-9]+)\s*([kmgtp]?)FLOP(S|/s)$", re.IGNORECASE)
PAGE_BYTES = 4096  # direct I/O and memory mapping align to this


def _scale(prefix: str) -> int:
    return {**_DECIMAL, **_BINARY}[prefix.lower()]


def parse_bps(text: object) -> int:
    """Bits per second from ``"400 Gbps"``, ``"6 MB/s"`` (a capital B before ``/s`` means bytes) or a plain number of bits.

    Raises: ValueError naming the text when it is no positive rate.
    """
    if isinstance(text, bool) or (isinstance(text, float) and not math.isfinite(text)):
        raise ValueError(f"{text!r} is no rate; write for example '400 Gbps' or '6 MB/s'")
    if isinstance(text, int | float):
        value = int(text)
    else:
        match = _RATE.match(str(text).strip())
        if not match:
            raise ValueError(f"{text!r} is no rate; write for example '400 Gbps' or '6 MB/s'")
        number, prefix, unit = match.groups()
        value = int(float(number) * _scale(prefix) * (8 if unit == "B/s" or unit == "B/S" else 1))
    if value <= 0:
        raise ValueError(f"{text!r} is not a positive rate")
    return value


def parse_bytes(text: object) -> int:
    """Bytes from ``"80 GB"`` (decimal), ``"512 MiB"`` (binary) or a plain number.

    Raises: ValueError naming the text when it is no positive size.
    """
    if isinstance(text, bool) or (isinstance(text, float) and not math.isfinite(text)):
        raise ValueError(f"{text!r} is no size; write for example '512 MiB'")
    if isinstance(text, int | float):
        value = int(text)
    else:
        match = _SIZE.match(str(text).strip())
        if not match:
            raise ValueError(f"{text!r} is no size; write for example '512 MiB'")
        value = int(float(match.group(1)) * _scale(match.group(2)))
    if value <= 0:
        raise ValueError(f"{text!r} is not a positive size")
    return value


def parse_bytes_per_s(text: object) -> int:
    """Bytes per second from ``"3.35 TB/s"``, ``"400 Gbps"`` or a plain number of bytes.

    Raises: ValueError naming the text when it is no positive rate.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and math.isfinite(text):
        if text < 1:
            raise ValueError(f"{text!r} is not a positive rate")
        return int(text)
    return parse_bps(text) // 8


def parse_flops(text: object) -> int:
    """FLOPs per second from ``"989.4 TFLOPS"``, ``"9 PFLOP/s"`` or a plain number.

    Raises: ValueError naming the text when it is no positive rate.
    """
    if isinstance(text, bool) or (isinstance(text, float) and not math.isfinite(text)):
        raise ValueError(f"{text!r} is no rate of computing; write for example '989.4 TFLOPS'")
    if isinstance(text, int | float):
        value = int(text)
    else:
        match = _FLOPS.match(str(text).strip())
        if not match:
            raise ValueError(f"{text!r} is no rate of computing; write for example '989.4 TFLOPS'")
        value = round(float(match.group(1)) * _scale(match.group(2)))
    if value <= 0:
        raise ValueError(f"{text!r} is not a positive rate of computing")
    return value


def bytes_per_s(bps: float) -> float:
    """Bytes per second of a rate in bits per second."""
    return bps / 8


def format_bytes(count: float) -> str:
    """``1536 -> '1.5 KiB'``: for messages and tables."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_rate(bps: float) -> str:
    """Bits per second as megabytes per second: ``48e6 -> '6.0 MB/s'``."""
    return format_bytes_per_s(bytes_per_s(bps))


def format_bytes_per_s(per_s: float) -> str:
    """``6e6 -> '6.0 MB/s'``."""
    return f"{per_s / 1e9:.1f} GB/s" if per_s >= 1e9 else f"{per_s / 1e6:.1f} MB/s"


def align_up(value: int, to: int) -> int:
    """The least multiple of ``to`` that is not below ``value``."""
    return -(-value // to) * to
