"""A member of a group of engines on a node of a lab.

group_node.py open HOST                      prints the port of the group's store, and is its first member
group_node.py join HOST PORT                 is the second; ends with its input
Both go on: INTERFACE TOS BYTES COUNT        the first one prints the median seconds of so many bursts
"""

import statistics
import sys

import torch

from dualpath_ray.engine.expert_group import ExpertGroup, GroupStore
from dualpath_ray.engine.expert_round import GroupPlace


def run(rank: int, host: str, port: int, interface: str, tos: int, nbytes: int, count: int) -> None:
    torch.set_num_threads(1)
    place = GroupPlace("engine", rank, ("d0", "d1"), host, port, tos, {"GLOO_SOCKET_IFNAME": interface})
    group = ExpertGroup(place, "cpu", lambda sent: lambda: None, lambda reason: None)
    if rank:
        print("joined", flush=True)
        sys.stdin.read()
        return
    sys.stdin.readline()  # when to begin
    print(statistics.median(group.exchange(nbytes) for _ in range(count)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "open":
        store = GroupStore(where)
        print(store.port, flush=True)
        run(0, where, store.port, rest[0], *map(int, rest[1:]))
    else:
        run(1, where, int(rest[0]), rest[1], *map(int, rest[2:]))
