"""What one would use in place of our transports, each reading the same blocks of another process into the same slots."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from dualpath_ray.base.nixl_agent import NixlMissingError, make_agent, run_transfer
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.port import CopyBatch

FLIGHT = "Arrow Flight over loopback TCP"
NIXL = "NIXL (UCX)"
RAY = "Ray put and get into a buffer"
_AT_ONCE_BYTES = 16 << 20  # that Ray's object store holds at a time
_POLL_S = 1e-3
_LIMIT_S = 60.0


def flight_read(address: str, mine: Segment, here: list[int], size: int) -> Callable[[], None]:
    """Blocks as one binary column, each copied into its slot as it comes."""
    from pyarrow import flight

    client = flight.connect(address)

    def read() -> None:
        at = iter(here)
        for chunk in client.do_get(flight.Ticket(b"blocks")):
            for block in chunk.data.column(0):
                to = next(at)
                mine.bytes[to : to + size] = np.frombuffer(block.as_buffer(), np.uint8)

    read()
    return read


def flight_server(segment: Segment) -> Any:
    """Serves every block of the pool. None when pyarrow was built without Flight."""
    try:
        import pyarrow
        from pyarrow import flight
    except ImportError:
        return None
    size = segment.layout.full_block_bytes
    memory = pyarrow.py_buffer(segment.bytes)
    ends = pyarrow.py_buffer(np.array([0, size], np.int32))
    starts = [segment.slot_offset(slot) + segment.layout.header_bytes for slot in range(segment.num_slots)]

    class Server(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
        def do_get(self, context: Any, ticket: Any) -> Any:
            def batches() -> Iterator[Any]:
                for at in starts:
                    block = pyarrow.Array.from_buffers(pyarrow.binary(), 1, [None, ends, memory.slice(at, size)])
                    yield pyarrow.record_batch([block], ["block"])

            return flight.GeneratorStream(pyarrow.schema([("block", pyarrow.binary())]), batches())

    return Server("grpc://127.0.0.1:0")


def nixl_holder(segment: Segment, stack: ExitStack) -> bytes:
    """In the other process: an agent with the pool, until the stack closes. Returns: its metadata; empty without NIXL."""
    try:
        agent = make_agent("holder", "UCX")
    except NixlMissingError:
        return b""
    address: int = segment.bytes.__array_interface__["data"][0]
    agent.register_memory([(address, len(segment.bytes), 0, "")], "DRAM")

    over = threading.Event()

    def poll() -> None:
        while not over.wait(_POLL_S):  # without a thread of its own an agent answers nobody
            agent.get_new_notifs()

    thread = threading.Thread(target=poll, name="nixl-poll", daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(over.set)
    metadata: bytes = agent.get_agent_metadata()
    return metadata


def nixl_read(metadata: bytes, there: int, mine: Segment, batch: CopyBatch) -> Callable[[], None]:
    """Prepared lists, a transfer for all blocks. Raises: NixlMissingError."""
    if not metadata:
        raise NixlMissingError("the other process has no agent with UCX")
    agent = make_agent("reader", "UCX")
    here: int = mine.bytes.__array_interface__["data"][0]
    agent.register_memory([(here, len(mine.bytes), 0, "")], "DRAM")
    remote = agent.add_remote_agent(metadata)
    sizes = batch.nbytes.tolist()
    lists = [
        agent.prep_xfer_dlist(name, [(base + at, size, 0) for at, size in zip(offsets, sizes, strict=True)], "DRAM")
        for name, base, offsets in (("", here, batch.local.tolist()), (remote, there, batch.remote.tolist()))
    ]
    indices = list(range(len(sizes)))

    def read() -> None:
        run_transfer(agent, agent.make_prepped_xfer("READ", lists[0], indices, lists[1], indices), _LIMIT_S)

    read()
    return read


def ray_read(stack: ExitStack, mine: Segment, here: list[int], size: int) -> Callable[[], None]:
    """An actor puts blocks into Ray's object store; this process gets them and copies them into their slots."""
    import ray

    from dualpath_ray.cluster.placement import RaySession

    session = RaySession()
    session.open(None, 1)
    stack.callback(session.close)

    class Holder:
        def __init__(self, count: int, size: int) -> None:
            self._blocks = np.full((count, size), 2, np.uint8)

        def put(self, first: int, stop: int) -> list[Any]:
            return [ray.put(block) for block in self._blocks[first:stop]]

    holder = ray.remote(num_cpus=0)(Holder).remote(len(here), size)
    step = max(1, _AT_ONCE_BYTES // size)

    def read() -> None:
        for first in range(0, len(here), step):
            blocks = ray.get(ray.get(holder.put.remote(first, first + step)))
            for at, block in zip(here[first : first + step], blocks, strict=True):
                mine.bytes[at : at + size] = block

    read()
    return read
