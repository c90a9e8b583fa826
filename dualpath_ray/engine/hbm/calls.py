"""A copy command for each block: what one gets without thinking, and the comparison for the other ways."""

import ctypes

import numpy as np
import torch

from dualpath_ray.engine.hbm.copy_engine import cuda_runtime
from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class CopyCalls(BlockCopy):
    """BlockCopy by cudaMemcpyAsync, one call a block."""

    name = "a copy call a block"

    def __init__(self) -> None:
        """Raises: ImportError when the CUDA runtime cannot be found."""
        self._library, _ = cuda_runtime()

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        return BlockList(host, device, nbytes, (host.tolist(), device.tolist()))

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        host, device = blocks.prepared
        self._copy(device, device_offset, host, host_offset, blocks.nbytes, _TO_DEVICE)

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        host, device = blocks.prepared
        self._copy(host, host_offset, device, device_offset, blocks.nbytes, _TO_HOST)

    def _copy(self, to: list[int], to_offset: int, of: list[int], of_offset: int, nbytes: int, kind: int) -> None:
        stream, pointer, size = torch.cuda.current_stream().cuda_stream, ctypes.c_void_p, ctypes.c_size_t(nbytes)
        for target, source in zip(to, of, strict=True):
            status = self._library.cudaMemcpyAsync(
                pointer(target + to_offset), pointer(source + of_offset), size, kind, pointer(stream)
            )
            if status:
                raise RuntimeError(f"cudaMemcpyAsync failed with {status}")
