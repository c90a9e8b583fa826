"""A GPU engine's way to its node's pool: page-locked, with the way of copying that is best for blocks of this size."""

import numpy as np
import torch

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.memory import address_of
from dualpath_ray.engine.hbm.page_lock import lock
from dualpath_ray.engine.hbm.port import BlockCopy
from dualpath_ray.engine.hbm.probe import MakeWay, choose, probe
from dualpath_ray.kv.segment import Segment


class PoolAccess:
    """``way`` copies Layer Blocks. ``tensor`` is the whole segment, uint8 [bytes]."""

    def __init__(self, segment: Segment, loopback: MakeWay | None = None) -> None:
        """Measures, by writing what is there back; no request may use the pool yet.

        Args:   loopback: makes a compute NIC's way, which may copy, too.

        Raises: ConfigError when it cannot be page-locked, or there is no way to copy.
        """
        self._segment, self.layout = segment, segment.layout
        lock(segment.bytes)
        self.tensor = torch.from_numpy(segment.bytes)
        probed = probe(
            segment.slots.reshape(-1), self.layout.layer_block_bytes, self.layout.slot_bytes, loopback=loopback
        )
        if not probed:
            raise ConfigError(
                "engine.device: cuda needs CUDA 12.8 or later, or the extra gpu-cu12 or gpu-cu13, to copy blocks; install one"
            )
        self.way: BlockCopy = choose(probed).way
        for other in probed:
            if other.way is not self.way:
                other.way.end()

    def layer_blocks(self, slots: np.ndarray) -> np.ndarray:
        """Addresses of layer 0 in these slots, uint64 [slots]; layer l stands ``l * layer_block_bytes`` further on."""
        base = address_of(self._segment.bytes)
        first = base + self._segment.slots_offset + self.layout.header_bytes
        return np.asarray(slots, np.uint64) * np.uint64(self.layout.slot_bytes) + np.uint64(first)
