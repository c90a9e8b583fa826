"""Where the engine's memory is DRAM itself: plain copies, at once."""

import ctypes

import numpy as np

from dualpath_ray.engine.hbm.port import BlockCopy, BlockList


class CpuCopy(BlockCopy):
    """BlockCopy by memmove. ``device`` addresses are those of CPU tensors."""

    name = "memmove"

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        return BlockList(host, device, nbytes)

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._copy(blocks.device, device_offset, blocks.host, host_offset, blocks.nbytes)

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._copy(blocks.host, host_offset, blocks.device, device_offset, blocks.nbytes)

    @staticmethod
    def _copy(to: np.ndarray, to_offset: int, of: np.ndarray, of_offset: int, nbytes: int) -> None:
        for target, source in zip(to.tolist(), of.tolist(), strict=True):
            ctypes.memmove(target + to_offset, source + of_offset, nbytes)
