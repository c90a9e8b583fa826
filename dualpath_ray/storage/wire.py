"""What a storage node and a reader on another host say to one another over a socket: fixed headers, then whole blocks."""

import socket
import struct
from dataclasses import dataclass

from dualpath_ray.kv.keys import KEY_BYTES
from dualpath_ray.kv.layout import KvLayout

TOKEN_BYTES = 32
READ, WRITE = 1, 2  # what a request asks for
OK, NOT_FOUND, FAILED, FULL, REFUSED = range(5)  # how it ended; all but OK and NOT_FOUND are followed by a sentence
REQUEST = struct.Struct(f"<B{KEY_BYTES}s")  # what, key; a WRITE is followed by the block
ANSWER = struct.Struct("<BI")  # how it ended, bytes that follow
HELLO = struct.Struct(f"<8s{TOKEN_BYTES}sIII")  # magic, token, layout; answered before the first request
MAGIC = b"DPSTORE1"


@dataclass(frozen=True, slots=True)
class ServedAt:
    """Where a storage node serves its blocks, and the secret that proves a reader to be of its system."""

    host: str
    port: int
    token: bytes


def hello(token: bytes, layout: KvLayout) -> bytes:
    """A reader's first bytes."""
    return HELLO.pack(MAGIC, token, *layout.shape)


def receive(connection: socket.socket, into: memoryview) -> bool:
    """Fill ``into``. Returns: False when the other end closed before the first byte.

    Raises: OSError; ConnectionError when it closed in between.
    """
    done = 0
    while done < len(into):
        count = connection.recv_into(into[done:])
        if count == 0:
            if done == 0:
                return False
            raise ConnectionError(f"the other end closed after {done} of {len(into)} bytes")
        done += count
    return True
