"""What one would use in place of our transports, each reading the same blocks of another process into the same slots."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from dualpath_ray.base.memory import address_of
from dualpath_ray.base.nixl_agent import NixlMissingError, make_agent, run_transfer
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.nixl_pool import NixlPool
from dualpath_ray.transport.port import CopyBatch

FLIGHT = "Arrow Flight over loopback TCP"
MOONCAKE = "Mooncake's transfer engine over loopback TCP"
NIXL = "NIXL alone (UCX in one host, prepared lists)"
_HOST = "127.0.0.1"
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
        pool = NixlPool("holder", segment.bytes, None)
    except NixlMissingError:
        return b""
    stack.callback(pool.end)
    return pool.metadata


def nixl_read(metadata: bytes, there: int, mine: Segment, batch: CopyBatch) -> Callable[[], None]:
    """Prepared lists, a transfer for all blocks. Raises: NixlMissingError."""
    if not metadata:
        raise NixlMissingError("the other process has no agent with UCX")
    agent = make_agent("reader", "UCX")
    here = address_of(mine.bytes)
    agent.register_memory([(here, len(mine.bytes), 0, "")], "DRAM")
    remote = agent.add_remote_agent(metadata)
    sizes = batch.nbytes.tolist()
    lists = [
        agent.prep_xfer_dlist(name, [(base + at, size, 0) for at, size in zip(offsets, sizes, strict=True)], "DRAM")
        for name, base, offsets in (("", here, batch.local.tolist()), (remote, there, batch.remote.tolist()))
    ]
    indices = list(range(len(sizes)))

    def read() -> None:
        agent.send_notif(remote, b"copying")  # so that the other end polls quickly: see NixlPool
        run_transfer(agent, agent.make_prepped_xfer("READ", lists[0], indices, lists[1], indices), _LIMIT_S)

    read()
    return read


def mooncake_holder(segment: Segment, stack: ExitStack) -> str:
    """In the other process: an engine with the pool, until the stack closes. Returns: where it is; empty without Mooncake."""
    try:
        engine = _mooncake_engine(segment)
    except (ImportError, OSError):
        return ""
    stack.callback(_forget, engine, segment)
    return f"{_HOST}:{engine.get_rpc_port()}"


def mooncake_read(where: str, there: int, mine: Segment, batch: CopyBatch) -> Callable[[], None]:
    """A request for all blocks. Raises: ImportError; OSError when the engine does not start or read."""
    if not where:
        _mooncake()  # says what is missing
        raise OSError("the other process has no engine")
    engine = _mooncake_engine(mine)
    here = address_of(mine.bytes)
    request = (batch.local + here).tolist(), (batch.remote + there).tolist(), batch.nbytes.tolist()

    def read() -> None:
        if engine.batch_transfer_sync_read(where, *request):
            raise OSError("Mooncake could not read")

    read()
    return read


def _mooncake() -> Any:
    try:
        from mooncake.engine import TransferEngine
    except ImportError as error:
        raise ImportError(f"{error}; install mooncake-transfer-engine-non-cuda, and libibverbs") from error
    return TransferEngine


def _mooncake_engine(segment: Segment) -> Any:
    engine = _mooncake()()
    address = address_of(segment.bytes)
    if engine.initialize(_HOST, "P2PHANDSHAKE", "tcp", "") or engine.register_memory(address, len(segment.bytes)):
        raise OSError("Mooncake's engine does not start")
    return engine


def _forget(engine: Any, segment: Segment) -> None:
    engine.unregister_memory(address_of(segment.bytes))
