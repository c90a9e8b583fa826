"""The pool, page-locked: without it a copy to the device goes through a buffer of the driver's, at a fraction of the rate.

Shared memory can be locked by every process that maps it, so engines lock the segment that their traffic manager made.
"""

import numpy as np
import torch

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.memory import address_of
from dualpath_ray.base.units import format_bytes

_PORTABLE = 1  # cudaHostRegisterPortable: for every device of this process


def lock(memory: np.ndarray) -> None:
    """Lock the pages of ``memory``, uint8 [bytes], which starts on a page.

    Raises: ConfigError when the system does not let this process lock so much.
    """
    status = torch.cuda.cudart().cudaHostRegister(address_of(memory), memory.nbytes, _PORTABLE)
    if int(status) != 0:
        raise ConfigError(
            f"node.pe_buffer_bytes and node.de_buffer_bytes: {format_bytes(memory.nbytes)} of a buffer cannot be page-locked "
            f"(CUDA error {int(status)}); raise the limit of locked memory (ulimit -l, IPC_LOCK), or make the buffer smaller"
        )


def unlock(memory: np.ndarray) -> None:
    """Let the pages go: before the mapping ends."""
    torch.cuda.cudart().cudaHostUnregister(address_of(memory))
