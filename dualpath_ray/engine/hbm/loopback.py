"""The GPU's own compute NIC moves the blocks (section 5.2): over RDMA to itself, by GPUDirect, past the copy engines.

Only where ``engine.cnic_loopback`` asks for it: it has not been run on RDMA. tests/gpu runs order, bytes and failures over
UCX's TCP. What a NIC alone can show is open: whether UCX takes it for copies to oneself, and at what rate.

A NIC does not know of CUDA's streams. So the stream writes a word to page-locked memory when it comes to a copy, and waits
for another, which a thread writes when the bytes are there. A thread of its own serves the copies of each in
the order in which they were issued: what one waits for was issued before it. There is one for each direction and stream.
These threads never call CUDA themselves: a call that waits for the GPU, as the first one of a kernel may, would wait for
them. (UCX's TCP does, for a copy.) A copy that fails ends the way for good, and with it the engine.
"""

import ctypes
import queue
import threading
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.memory import address_of
from dualpath_ray.base.nic_choice import AUTO, nearest_nics
from dualpath_ray.base.nic_devices import read_devices
from dualpath_ray.base.nixl_agent import end_agent, make_agent, run_transfer
from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

_LIMIT_S = 60.0  # of one copy, which takes milliseconds
_PAUSE_S = 5e-5  # between two looks at it
_WHEN_AT_LEAST, _FLUSH = 0x0, 1 << 30  # CU_STREAM_WAIT_VALUE_GEQ, _FLUSH: what the NIC wrote is seen by what follows
_CAN_FLUSH, _ORDERING = 98, 118  # CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, _GPU_DIRECT_RDMA_WRITES_ORDERING
_ORDERED_FOR_OWNER = 100  # CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER: no flush is needed
_BUFFER_ID = 7  # CU_POINTER_ATTRIBUTE_BUFFER_ID: no two allocations of a process have the same


def loopback_device(cnic: str) -> str:
    """The compute NIC that copies for this process' GPU, as UCX knows it.

    Args:   cnic: as the configuration names it, or auto: the one nearest to the GPU.
    Raises: ConfigError when it cannot be used by RDMA.
    """
    host = read_devices()
    rdma = [nic for nic in host.nics if nic.rdma_up and (cnic == AUTO or nic.is_named(cnic))]
    if not rdma:
        which = "the host has none" if cnic == AUTO else f"{cnic} is none"
        raise ConfigError(
            f"engine.cnic_loopback: it needs a compute NIC with RDMA whose port is active, and {which}; set it to false"
        )
    gpu = [place for place in host.gpus if place.address == gpu_address()]
    return (nearest_nics(gpu, rdma)[0][0] if gpu else rdma[0]).ucx_name


def gpu_address() -> str:
    """The PCI address of this process' GPU, as the kernel writes it: ``0000:1b:00.0``."""
    found = ctypes.create_string_buffer(32)
    if _driver().cuDeviceGetPCIBusId(found, len(found), torch.cuda.current_device()):
        return ""
    return found.value.decode().lower()


class CnicLoopback(BlockCopy):
    """BlockCopy by a NIXL agent that reads and writes its own memory: page-locked slots, and HBM."""

    def __init__(self, pool: np.ndarray, device: str, mark: Mark | None = None) -> None:
        """Args: pool: uint8 [bytes], where all host ranges are; device: as UCX knows it; mark: of its packets: they are KV.

        Raises: NixlMissingError; OSError without a CUDA driver; RuntimeError where a GPU may see a NIC's writes too late.
        """
        self.name = f"CNIC in loopback ({device})"
        self._gpu = torch.cuda.current_device()
        self._flush = _FLUSH if _attribute(_CAN_FLUSH, self._gpu) else 0
        if not self._flush and _attribute(_ORDERING, self._gpu) < _ORDERED_FOR_OWNER:
            raise RuntimeError("this GPU can neither order nor flush what a NIC has written")
        self._agent = make_agent(f"loopback-{uuid.uuid4().hex}", "UCX", device=device, mark=mark)
        self._agent.register_memory([(address_of(pool), pool.nbytes, 0, "")], "DRAM")
        self._registered: dict[int, tuple[int, int, Any]] = {}  # of HBM, by buffer id: (base, bytes, registration)
        self._changed = threading.Condition()
        self._moving, self._over = 0, False
        self._failure: Exception | None = None
        self._lanes: dict[tuple[str, int], _Lane] = {}

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        return BlockList(host, device, nbytes)

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._issue("WRITE", blocks, host_offset, device_offset)

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._issue("READ", blocks, host_offset, device_offset)

    def _issue(self, operation: str, blocks: BlockList, host_offset: int, device_offset: int) -> None:
        self.check()
        if not len(blocks.host):
            return
        first, last = int(blocks.device.min()) + device_offset, int(blocks.device.max()) + device_offset
        with self._changed:
            self._register(first, last + blocks.nbytes)
        stream = torch.cuda.current_stream().cuda_stream
        lane = self._lanes.get((operation, stream))
        if lane is None:
            lane = self._lanes[operation, stream] = _Lane(operation, stream, self._run, self._fail, self._flush)
        lane.issue(blocks, host_offset, device_offset)

    def check(self) -> None:
        if self._failure is not None:
            raise TransportError(f"{self.name} failed: {self._failure}") from self._failure

    def end(self) -> None:
        for lane in self._lanes.values():
            lane.end()
        with self._changed:
            self._end_agent()

    def _run(self, operation: str, blocks: BlockList, host_offset: int, device_offset: int) -> None:
        """In a lane's thread. Raises: whatever failed; then its bytes may move until ``_fail`` has returned."""
        host, device = blocks.host + np.uint64(host_offset), blocks.device + np.uint64(device_offset)
        with self._changed:
            if self._over or self._failure is not None:
                return
            self._moving += 1
        try:
            here = self._agent.get_xfer_descs(_table(host, blocks.nbytes, 0), "DRAM")
            there = self._agent.get_xfer_descs(_table(device, blocks.nbytes, self._gpu), "VRAM")
            handle = self._agent.initialize_xfer(operation, here, there, self._agent.name)
            # The other lane's failure ends this one's wait.
            run_transfer(self._agent, handle, _LIMIT_S, self.check, _PAUSE_S)
        finally:
            with self._changed:
                self._moving -= 1
                self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """Returns when no byte moves any more."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.wait_for(lambda: not self._moving)
            self._end_agent()

    def _end_agent(self) -> None:
        if not self._over:
            self._over = True
            end_agent(self._agent)

    def _register(self, first: int, stop: int) -> None:
        """The allocation that a list of ranges is in, before its first copy.

        Raises: RuntimeError when they are in several.
        """
        buffer_id, base, size = _allocation(first)
        if stop > base + size:
            raise RuntimeError("the ranges of a copy are in several allocations of the GPU's memory")
        if buffer_id in self._registered:
            return
        # Where memory was freed and is another's now, nothing that was issued for it is left: freeing waits for the GPU.
        for known, (at, nbytes, registration) in list(self._registered.items()):
            if at < base + size and base < at + nbytes:
                self._agent.deregister_memory(registration)
                del self._registered[known]
        registration = self._agent.register_memory([(base, size, self._gpu, "")], "VRAM")
        self._registered[buffer_id] = base, size, registration


class _Lane:
    """Copies of one stream in one direction, one after the other, each when the stream comes to it."""

    def __init__(
        self,
        operation: str,
        stream: int,
        run: Callable[[str, BlockList, int, int], None],
        fail: Callable[[Exception], None],
        flush: int,
    ) -> None:
        self._operation, self._stream, self._run, self._fail, self._flush = operation, stream, run, fail, flush
        # Counts of copies: those that the stream has come to, and those that are over.
        self._words = torch.zeros(2, dtype=torch.int32, pin_memory=True)
        self._reached, self._done = (self._words.data_ptr() + 4 * word for word in (0, 1))
        self._issued = 0
        self._jobs: queue.SimpleQueue[tuple[int, BlockList, int, int] | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"loopback-{operation.lower()}", daemon=True)
        self._thread.start()

    def issue(self, blocks: BlockList, host_offset: int, device_offset: int) -> None:
        self._issued += 1
        _call("cuStreamWriteValue32_v2", self._stream, self._reached, self._issued, 0)
        self._jobs.put((self._issued, blocks, host_offset, device_offset))
        _call("cuStreamWaitValue32_v2", self._stream, self._done, self._issued, _WHEN_AT_LEAST | self._flush)

    def end(self) -> None:
        """What was issued is over, or its stream will not come to it."""
        self._ending.set()
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        words = self._words.numpy()
        while (job := self._jobs.get()) is not None:
            number, blocks, host_offset, device_offset = job
            while words[0] < number:
                if self._ending.wait(_PAUSE_S):
                    return
            try:
                self._run(self._operation, blocks, host_offset, device_offset)
            except Exception as error:  # NIXL's bindings raise classes of their own
                self._fail(error)
            words[1] = number  # even of one that failed: a stream that waited for ever could not be told of it


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _call(name: str, stream: int, address: int, value: int, flags: int) -> None:
    """A stream's operation on a word. Raises: RuntimeError."""
    pointers = ctypes.c_void_p(stream), ctypes.c_void_p(address)
    status = getattr(_driver(), name)(*pointers, ctypes.c_uint32(value), ctypes.c_uint(flags))
    if status:
        raise RuntimeError(f"{name} failed with {status}")


def _attribute(which: int, gpu: int) -> int:
    """Of a device; 0 where this driver does not know it."""
    value = ctypes.c_int(0)
    return 0 if _driver().cuDeviceGetAttribute(ctypes.byref(value), which, gpu) else value.value


def _allocation(address: int) -> tuple[int, int, int]:
    """(buffer id, base, bytes) of the allocation in HBM that an address is in. Raises: RuntimeError when it is in none."""
    buffer_id, base, size = ctypes.c_ulonglong(0), ctypes.c_ulonglong(0), ctypes.c_size_t(0)
    pointer = ctypes.c_ulonglong(address)
    status = _driver().cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(size), pointer)
    status = status or _driver().cuPointerGetAttribute(ctypes.byref(buffer_id), _BUFFER_ID, pointer)
    if status:
        raise RuntimeError(f"the driver knows no memory at {address:#x} (CUDA error {status})")
    return buffer_id.value, base.value, size.value


def _table(addresses: np.ndarray, nbytes: int, device: int) -> np.ndarray:
    """NIXL's descriptors: int64 [ranges, 3]: address, bytes, device."""
    found = np.empty((len(addresses), 3), np.int64)
    found[:, 0], found[:, 1], found[:, 2] = addresses.view(np.int64), nbytes, device
    return found
