"""What engines and traffic managers say to each other, per request, batch or layer; never a KV byte.

A message travels as one msgpack list: its class name, then its fields. Every message about a request carries the attempt
it belongs to; one of an earlier attempt is ignored by whoever gets it.
"""

from dataclasses import dataclass, fields
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True)
class Hello:
    """First message on a link: who speaks."""

    name: str


@dataclass(frozen=True, slots=True)
class Relay:
    """From one engine of a node to another, handed on by the traffic manager."""

    to_engine: int
    kind: str  # "request" from the leader, "finished" to it
    data: dict[str, Any]


# engine -> its traffic manager, prefill side ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSource:
    """This prefill engine will compute the request. ``hit_keys`` are read here when ``read_path`` is ``pe``."""

    request_id: str
    attempt: int
    seq: int  # of the scheduler's decision
    engine: int
    read_path: str
    hit_keys: list[bytes]
    being_written: list[bool]
    decode_node: str
    decode_cnic: int
    urgent_at_s: float | None = None  # from when on its KV is urgent, by this host's monotonic clock


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A chunk of one request in a forward batch: tokens [start, stop) are computed, [0, start) are cached."""

    request_id: str
    start: int
    stop: int
    last: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """A forward batch begins. ``items``: fields of BatchItem."""

    engine: int
    batch: int
    items: list[list[Any]]


@dataclass(frozen=True, slots=True)
class LayerOut:
    """The new tokens' KV of this layer stands in the staging region."""

    engine: int
    batch: int
    layer: int


@dataclass(frozen=True, slots=True)
class BatchDone:
    """The forward is over. For the requests whose prompt is complete, by request id: ``first`` [token, logprob] of each
    sample, and ``facts``, what the engine measured of it.
    """

    engine: int
    batch: int
    first: dict[str, list[list[float]]]
    facts: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class CloseSource:
    """The engine will compute no further chunk of this request."""

    request_id: str
    attempt: int


# traffic manager -> its prefill engine ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceReady:
    """The hit is in a buffer and verified: ``hit_blocks`` of it. On the PE path ``slots`` holds them here."""

    request_id: str
    attempt: int
    hit_blocks: int
    slots: list[int]
    queued_s: float
    read_s: float
    read_bytes: int  # over the SNIC for this request; blocks that another one was reading are not among them


@dataclass(frozen=True, slots=True)
class LayerIn:
    """Cached rows of this layer, on their way since ``started_s`` (monotonic clock), have arrived in the region at
    ``offset`` of the segment, which may be written now.
    """

    batch: int
    layer: int
    offset: int
    started_s: float


@dataclass(frozen=True, slots=True)
class SourceGone:
    """The request was cancelled: drop it and answer with CloseSource."""

    request_id: str
    attempt: int


# engine -> its traffic manager, decode side ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSink:
    """This decode engine will decode the request and has reserved its HBM; a DE buffer is wanted for the prompt's KV."""

    request_id: str
    attempt: int
    seq: int  # of the scheduler's decision
    engine: int
    prompt_tokens: int
    read_path: str
    hit_keys: list[bytes]
    being_written: list[bool]
    prefill_node: str
    urgent_at_s: float | None = None  # as of OpenSource


@dataclass(frozen=True, slots=True)
class SinkLoaded:
    """The prompt's KV is in HBM. ``persist``: [block, key, parent key] of its new full blocks; the other slots are free."""

    request_id: str
    attempt: int
    trajectory_id: str
    weights_version: int
    persist: list[list[Any]]


@dataclass(frozen=True, slots=True)
class PersistWant:
    """A block filled up during decoding; a slot is wanted to hand it over."""

    request_id: str
    attempt: int
    engine: int
    block: int


@dataclass(frozen=True, slots=True)
class PersistReady:
    """The block stands in the slot."""

    request_id: str
    attempt: int
    engine: int
    trajectory_id: str
    weights_version: int
    slot: int
    key: bytes
    parent: bytes


@dataclass(frozen=True, slots=True)
class CloseSink:
    """The request was cancelled. When a PromptComplete has crossed it, it is void and SinkLoaded ends the sink."""

    request_id: str
    attempt: int


# traffic manager -> its decode engine ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PromptComplete:
    """All KV of the prompt stands in ``slots``. ``first``: [token, logprob] per sample."""

    request_id: str
    attempt: int
    slots: list[int]
    hit_blocks: int
    first: list[list[float]]
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class PersistSlot:
    request_id: str
    attempt: int
    block: int
    slot: int


@dataclass(frozen=True, slots=True)
class Registered:
    """So many more blocks of this request are in the index: the next turn will find them. ``num_writes`` are new there."""

    request_id: str
    attempt: int
    count: int
    num_writes: int


@dataclass(frozen=True, slots=True)
class SinkClosed:
    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the group's leader reports of its node. ``nics``: [name, bytes per second, utilisation] each.

    ``opened``: [engine, seq] of the last decision of each engine that these loads count.
    """

    read_queue_tokens: int
    read_bytes: int
    can_read: bool
    free_buffer_tokens: int
    nics: list[list[Any]]
    opened: list[list[int]]


# between traffic managers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """DE buffer slots for a prompt. On the DE path ``hit_blocks`` of it are in already; else -1."""

    request_id: str
    attempt: int
    slots: list[int]
    hit_blocks: int
    queued_s: float
    read_s: float
    read_bytes: int


@dataclass(frozen=True, slots=True)
class PromptDone:
    """Every byte of the prompt's KV has been written into the offered slots; nothing writes to them any more."""

    request_id: str
    attempt: int
    hit_blocks: int
    first: list[list[float]]
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Revoke:
    """The decode side gives the request up and waits for proof that its slots are left alone."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Revoked:
    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A Revoke and a PromptDone have crossed: the Revoke is void and the prefill side may forget it."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Collective:
    """An engine's part of a collective: so many bytes leave over its compute NIC, and as many come.

    ``posted_s``: when, in seconds of this host's monotonic clock; the NIC has it from then on, whenever this arrives.
    ``on_device``: engines exchange them. Else they are replayed, and only an emulated NIC has to do with them.
    """

    engine: int
    op: int
    nbytes: int
    posted_s: float
    on_device: bool = False


@dataclass(frozen=True, slots=True)
class CollectiveDone:
    """They are through at ``end_s``, which may be to come. ``took_s``: by the NIC's schedule, since they were posted."""

    op: int
    took_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A transfer that the peer drives wants this node's CNIC too."""

    op: int
    cnic: int
    direction: str
    nbytes: int
    urgent_in_s: float | None = None  # from when on it is urgent, in seconds from now


@dataclass(frozen=True, slots=True)
class Granted:
    """The transfer is through this node's CNIC."""

    op: int


_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
}


def encode(message: Any) -> bytes:
    """One message as bytes."""
    kind = type(message)
    packed: bytes = msgpack.packb([kind.__name__, *(getattr(message, f.name) for f in fields(kind))])
    return packed


def decode(data: bytes) -> Any:
    """The message that ``encode`` was given.

    Raises: ValueError when the data is no message of this version.
    """
    name, *values = msgpack.unpackb(data, strict_map_key=False)
    if name not in _KINDS:
        raise ValueError(f"{name!r} is no message of this version")
    return _KINDS[name](*values)
