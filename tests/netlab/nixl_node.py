"""One end of copies by NIXL with an agent for each class: ``hold`` has a pool, ``drive`` copies to and from it.

nixl_node.py hold SYSTEM DEVICE BYTES            prints its description, and ends with its input
nixl_node.py drive SYSTEM DEVICE BYTES NICS      takes that description; prints a line of JSON for each copy
"""

import json
import sys
from pathlib import Path

import numpy as np

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path
from dualpath_ray.transport.port import CopyBatch
from tests.unit.transport.two_agents import MARKS, moved_bytes, nixl_of_two_agents

_LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)


def run(what: str, system: str, device: str, size: int, nics: list[str]) -> None:
    name, number = ("d0", 2) if what == "hold" else ("p0", 1)
    segment = Segment.create(segment_path(system, name), _LAYOUT, 4, size, "node.de_buffer_bytes")
    transport = nixl_of_two_agents(name, segment, device)
    segment.staging[:] = number
    try:
        if what == "hold":
            print(transport.describe().hex(), flush=True)
            sys.stdin.read()
            return
        transport.connect("d0", bytes.fromhex(sys.stdin.readline()))
        at = segment.staging_offset
        batch = CopyBatch(*(np.array([each], np.int64) for each in (at, at, size)))
        for traffic_class in MARKS:
            for write in (False, True):
                devices, agents = _device_bytes(nics), moved_bytes()
                transport.copy_as(traffic_class, "d0", batch, write)
                assert (segment.staging == 2).all()
                told = {
                    "class": traffic_class,
                    "write": write,
                    "devices": {key: after - devices[key] for key, after in _device_bytes(nics).items()},
                    "agents": {each: after - agents[each] for each, after in moved_bytes().items()},
                }
                print(json.dumps(told), flush=True)
    finally:
        transport.close()
        segment.unlink()


def _device_bytes(nics: list[str]) -> dict[str, int]:
    """By ``cnic0/rx`` and the like."""
    ways = [f"{nic}/{way}" for nic in nics for way in ("rx", "tx")]
    paths = {way: Path("/sys/class/net", way.replace("/", "/statistics/") + "_bytes") for way in ways}
    return {way: int(path.read_text()) for way, path in paths.items()}


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
