"""A driver call for hundreds of ranges (cudaMemcpyBatchAsync): the copy engines move them and the multiprocessors stay free.

Called through ctypes: the arrays of addresses are NumPy's, where a binding that takes Python lists would need longer to
read them than the engines need to copy.
"""

import ctypes
import glob
from functools import cache
from pathlib import Path

import numpy as np
import torch

from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

_AT_ONCE = 256  # ranges of a call: the next ones are handed over while these are copied
_IN_STREAM_ORDER = 1  # cudaMemcpySrcAccessOrderStream


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Attributes(ctypes.Structure):
    """cudaMemcpyAttributes."""

    _fields_ = [
        ("order", ctypes.c_int),
        ("source", _Location),
        ("target", _Location),
        ("flags", ctypes.c_uint),
    ]


@cache
def cuda_runtime() -> tuple[ctypes.CDLL, int]:
    """The CUDA runtime that torch uses, and its major version. Raises: ImportError when it has no such call."""
    major = int((torch.version.cuda or "0").split(".")[0])
    names = [f"libcudart.so.{major}"]
    for root in (Path(torch.__file__).parent.parent / "nvidia", Path(torch.__file__).parent / "lib"):
        names += glob.glob(str(root / "**" / f"libcudart*.so.{major}*"), recursive=True)
    for name in names:
        try:
            library = ctypes.CDLL(name)
            library.cudaMemcpyBatchAsync  # noqa: B018  # raises where it is missing: before CUDA 12.8
        except (OSError, AttributeError):
            continue
        return library, major
    raise ImportError("this CUDA runtime has no cudaMemcpyBatchAsync (CUDA 12.8 and later have)")


class CopyEngine(BlockCopy):
    """BlockCopy by the copy engines."""

    name = "copy engines"

    def __init__(self) -> None:
        """Raises: ImportError when the CUDA runtime is too old."""
        self._library, self._major = cuda_runtime()
        self._attributes = _Attributes(order=_IN_STREAM_ORDER)

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        return BlockList(host, device, nbytes, np.full(len(host), nbytes, np.uint64))

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._copy(blocks.device, device_offset, blocks.host, host_offset, blocks.prepared)

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._copy(blocks.host, host_offset, blocks.device, device_offset, blocks.prepared)

    def _copy(
        self, targets: np.ndarray, target_offset: int, sources: np.ndarray, source_offset: int, sizes: np.ndarray
    ) -> None:
        # The call reads the arrays before it returns, and the engines begin when it does: not all ranges in one call.
        to, of = targets + np.uint64(target_offset), sources + np.uint64(source_offset)
        for start in range(0, len(sizes), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            self._call(to[some], of[some], sizes[some])

    def _call(self, to: np.ndarray, of: np.ndarray, sizes: np.ndarray) -> None:
        first, failed = ctypes.c_size_t(0), ctypes.c_size_t(0)
        arguments = [
            ctypes.c_void_p(to.ctypes.data),
            ctypes.c_void_p(of.ctypes.data),
            ctypes.c_void_p(sizes.ctypes.data),
            ctypes.c_size_t(len(sizes)),
            ctypes.byref(self._attributes),
            ctypes.byref(first),
            ctypes.c_size_t(1),
        ]
        if self._major < 13:
            arguments.append(ctypes.byref(failed))
        arguments.append(ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
        status = self._library.cudaMemcpyBatchAsync(*arguments)
        if status:
            raise RuntimeError(f"cudaMemcpyBatchAsync failed with {status} on {len(sizes)} blocks")
