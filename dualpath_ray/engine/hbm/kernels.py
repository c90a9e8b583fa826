"""A few thread blocks that read page-locked slots over PCIe themselves: the way for small blocks.

A copy command of the driver costs microseconds whatever its size; a thread block goes on to the next range without one.
More thread blocks than fill the link only take multiprocessors from the model.
"""

from functools import cache
from typing import Any

import numpy as np
import torch

from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

_THREADS = 512
_SOURCE = r"""
extern "C" __global__ void copy_blocks(const unsigned long long* from, const unsigned long long* to,
                                       long long from_offset, long long to_offset, long long bytes, int count) {
  const int step = blockDim.x;
  for (int block = blockIdx.x; block < count; block += gridDim.x) {
    const char* source = (const char*)from[block] + from_offset;
    char* target = (char*)to[block] + to_offset;
    long long done = 0;
    if ((((unsigned long long)source | (unsigned long long)target) & 15) == 0) {
      const int4* s = (const int4*)source;
      int4* t = (int4*)target;
      const long long words = bytes / 16;
      long long i = threadIdx.x;
      for (; i + 3 * step < words; i += 4 * step) {  // four loads in flight a thread: the link is far away
        const int4 a = __ldcv(s + i), b = __ldcv(s + i + step), c = __ldcv(s + i + 2 * step), d = __ldcv(s + i + 3 * step);
        t[i] = a; t[i + step] = b; t[i + 2 * step] = c; t[i + 3 * step] = d;
      }
      for (; i < words; i += step) t[i] = __ldcv(s + i);
      done = words * 16;
    }
    for (long long i = done + threadIdx.x; i < bytes; i += step) target[i] = source[i];
  }
}
"""


@cache
def _kernel() -> Any:
    import cupy

    return cupy.RawKernel(_SOURCE, "copy_blocks")


def current_stream() -> Any:
    """torch's, as CuPy takes it; CuPy before 14 knows it by its address only."""
    import cupy

    stream = torch.cuda.current_stream()
    made = getattr(cupy.cuda.Stream, "from_external", None)
    return made(stream) if made is not None else cupy.cuda.ExternalStream(stream.cuda_stream)


class KernelCopy(BlockCopy):
    """BlockCopy by ``num_thread_blocks`` thread blocks."""

    def __init__(self, num_thread_blocks: int) -> None:
        """Raises: ImportError when CuPy is missing."""
        self.name = f"kernel, {num_thread_blocks} thread blocks"
        self.num_thread_blocks = num_thread_blocks
        _kernel()

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        addresses = torch.from_numpy(np.stack([host, device]).view(np.int64)).pin_memory().to("cuda", non_blocking=True)
        return BlockList(host, device, nbytes, addresses)

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._launch(blocks, 0, 1, host_offset, device_offset)

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        self._launch(blocks, 1, 0, device_offset, host_offset)

    def _launch(self, blocks: BlockList, source: int, target: int, from_offset: int, to_offset: int) -> None:
        addresses, count = blocks.prepared, len(blocks.host)
        if not count:
            return
        pointers = (addresses[source].data_ptr(), addresses[target].data_ptr())
        offsets = (np.int64(from_offset), np.int64(to_offset), np.int64(blocks.nbytes), np.int32(count))
        with current_stream():
            grid = (min(self.num_thread_blocks, count),)
            _kernel()(grid, (_THREADS,), tuple(np.uint64(p) for p in pointers) + offsets)
