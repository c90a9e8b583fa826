"""A small system that works until its standard input ends: ``python -m tests.slow.dashboard.rolling ADDRESS``.

Prints its name once it is up, and again what its nodes counted when it is over.
"""

import json
import sys
import threading
from dataclasses import replace

from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.cluster.system import start_system
from dualpath_ray.config.load import parse_cluster
from tests.ray.systems import BASE, CONTEXT, roll_out, trajectories

OVERRIDES = {
    "node.snic_bps": "3 MB/s",
    "node.cnic_bps": "30 MB/s",
    "observability.metrics_interval_s": 1.0,
    "observability.state_line_s": 2.0,
}


def main(address: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    plan = make_plan(parse_cluster(BASE, "test", OVERRIDES), "test", CONTEXT)
    with start_system(plan, address) as system:
        client = Client(system)
        print(json.dumps({"system": system.name, "store": system.status()["storage"][0]["store"]}), flush=True)
        rounds = 0
        while not over.is_set():
            work = [replace(each, trajectory_id=f"{each.trajectory_id}-{rounds}") for each in trajectories(4, 4)]
            roll_out(system, client, work)
            rounds += 1
        client.close()
        print(json.dumps({"rounds": rounds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
