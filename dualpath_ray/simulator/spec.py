"""What is simulated: a cluster with every value filled in. ``build.py`` makes one of a configuration."""

from dataclasses import dataclass

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.models.spec import ModelSpec
from dualpath_ray.scheduler.state import FetchLimits
from dualpath_ray.simulator.costs import DecodeCosts, PrefillCosts


@dataclass(frozen=True, slots=True)
class NodeRates:
    """Bytes per second of each direction of a node's links. None: as fast as one likes, but bytes are counted.

    ``dram`` is half duplex: reads and writes share it. ``loopback``: a GPU's own CNIC moves what goes between DRAM and
    HBM (section 5.2), and is charged for it.
    """

    snic_in: float | None
    snic_out: float | None
    cnic: float | None
    dram: float | None = None
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that a turn waits for messages and software; where cores are shared, these are seconds of a core.

    ``submit_s``: from submit to the waiting queue, its hit looked up; ``read_s``: from the last byte of a read to the
    prefill engine; ``hand_over_s``: from the last push to the decode engine; ``turn_s``: from its last token to the
    submit of the trajectory's next turn, however busy the cores are.
    """

    submit_s: float = 0.0
    read_s: float = 0.0
    hand_over_s: float = 0.0
    turn_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The cluster, its models of cost, and the constants of section 6.

    ``max_rows``: cached and new tokens of a prefill batch, from the HBM that is free: with ``layerwise`` a few layers of
    it are held at once, without it all. ``cores``: of one machine that all engines share; None: a GPU for each.
    ``storage_bytes_per_s``: of all storage servers together, shared fairly by the reading nodes; None: never the limit.
    """

    prefill_nodes: int
    decode_nodes: int
    engines: int  # of a node
    model: ModelSpec
    layout: KvLayout
    rates: NodeRates
    prefill_costs: PrefillCosts
    decode_costs: DecodeCosts
    delays: Delays
    limits: FetchLimits
    read_path: str
    layerwise: bool
    prefetch: bool  # a hit is read into a DRAM buffer before its batch is formed, not as part of the batch
    quota_s: float | None
    oracle: bool
    min_chunk_tokens: int
    max_batch_tokens: int
    max_rows: int
    pe_blocks: int  # of a prefill node's DRAM buffer
    de_blocks: int
    hbm_tokens: int  # of a decode engine
    report_interval_s: float
    storage_bytes_per_s: float | None = None
    prefill_group: int = 1  # engines that share a copy of the weights, and so compute in step
    cores: int | None = None
    threads: int = 1  # of an engine, when cores are shared

    @property
    def num_engines(self) -> int:
        return (self.prefill_nodes + self.decode_nodes) * self.engines
