"""Where memory is."""

import numpy as np


def address_of(array: np.ndarray) -> int:
    """Of its first byte, in this process."""
    address: int = array.__array_interface__["data"][0]
    return address
