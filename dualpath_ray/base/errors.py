"""The error tree, cut by what the catcher can do about it.

Every constructor argument is passed on to ``Exception``, or the error would not unpickle in the actor that called.
"""


class DualPathError(Exception):
    """Root of every error that this package raises on purpose."""


class ConfigError(DualPathError):
    """The user can fix it: the message names the file and the key and says what to do. The CLI exits with 2."""


class LayoutError(DualPathError):
    """Caller and callee disagree on a shape: a bug, or two ends with different layouts."""


class TransportError(DualPathError):
    """A peer or link failed; take the other read path."""


class StorageError(DualPathError):
    """A read or write failed; retry, then recompute the tokens."""


class UnendedReadError(StorageError):
    """A read that did not end in time: its device may write into the slot yet, so nobody else may have that slot."""


class BlockNotFoundError(StorageError):
    """The store holds no block under this key."""

    def __init__(self, block_key: str, store: str) -> None:
        super().__init__(block_key, store)

    def __str__(self) -> str:
        return f"block {self.args[0]} is not in {self.args[1]}"


class CorruptBlockError(StorageError):
    """The bytes under a key are not intact, or are another block's."""

    def __init__(self, block_key: str, reason: str) -> None:
        super().__init__(block_key, reason)

    def __str__(self) -> str:
        return f"block {self.args[0]} is corrupt: {self.args[1]}"


class StoreFullError(StorageError):
    """The store's disk or configured capacity is full and nothing may be evicted."""


class RequestRefusedError(DualPathError):
    """A request that can never run here (too long for the model, a buffer or HBM); refused at the edge."""


class SystemDiedError(DualPathError):
    """One of the system's processes is gone; the message names it. Raised to whoever waits for a result."""
