"""Words that several rooms share."""

from enum import StrEnum

CLIENT_SILENT_S = 600.0  # a client that was not heard of for so long is taken for dead


class ReadPath(StrEnum):
    """The side whose storage NIC reads a request's hit blocks (section 4.1)."""

    PE = "pe"
    DE = "de"


class Role(StrEnum):
    """What the engines of a node or group do; a group is all prefill or all decode (section 6)."""

    PREFILL = "prefill"
    DECODE = "decode"


class TrafficClass(StrEnum):
    """What a transfer is for (section 5); the NIC's lanes are chosen by it."""

    MODEL_EXECUTION = "model_execution"  # collectives
    KV_CACHE = "kv_cache"  # blocks that a request waits for, and KV between nodes
    KV_URGENT = "kv_urgent"  # the same of a request whose deadline is near
    WRITE_BACK = "write_back"  # blocks on their way to storage
    SCRUB = "scrub"  # blocks that are read only to see whether they are intact


def node_name(role: Role, index: int) -> str:
    """Name of a logical node: ``p0`` is the first prefill node, ``d1`` the second decode node."""
    return f"{'p' if role is Role.PREFILL else 'd'}{index}"
