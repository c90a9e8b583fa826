"""When nothing but storage is the bottleneck (section 4.2), from what the hops of the two read paths put on every link.

Rates are bytes per second. The load of a kind of link is that of one such link: reads are spread evenly over the engines
of a side, as the scheduler does in the long run.
"""

from dataclasses import dataclass
from math import inf
from typing import Self

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.base.units import bytes_per_s
from dualpath_ray.config.hardware import HardwareConfig
from dualpath_ray.traffic.hops import HOPS, PERSIST_PROMPT, LinkKind, link_bytes

SNIC_READS = (LinkKind.PE_SNIC_IN, LinkKind.DE_SNIC_IN)


@dataclass(frozen=True, slots=True)
class NodeLinks:
    """The links of one node; the paper's symbol stands beside each name.

    Raises: ConfigError when no such node can serve: a rate that is not positive, or storage as fast as all CNICs.
    """

    gpus: int  # g; one CNIC each
    cnic_bytes_per_s: float  # B, per GPU and direction
    snic_bytes_per_s: float  # s x B, per node and direction
    dram_bytes_per_s: float  # M, per node, half duplex

    def __post_init__(self) -> None:
        for name in ("gpus", "cnic_bytes_per_s", "snic_bytes_per_s", "dram_bytes_per_s"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name}: {getattr(self, name)} must be positive and finite")
        if self.snic_bytes_per_s >= self.gpus * self.cnic_bytes_per_s:
            raise ConfigError(
                f"snic_bytes_per_s: {self.snic_bytes_per_s:g} must stay below gpus * cnic_bytes_per_s = "
                f"{self.gpus * self.cnic_bytes_per_s:g} (section 4.2 needs s < g)"
            )

    @classmethod
    def of(cls, hardware: HardwareConfig) -> Self:
        return cls(
            gpus=hardware.gpus,
            cnic_bytes_per_s=bytes_per_s(hardware.cnic_bps),
            snic_bytes_per_s=bytes_per_s(hardware.snic_bps),
            dram_bytes_per_s=hardware.dram_bytes_per_s,
        )

    def capacity(self, link: LinkKind) -> float:
        """Bytes per second of one link of this kind."""
        if link.is_cnic:
            return self.cnic_bytes_per_s
        return self.dram_bytes_per_s if link.is_dram else self.snic_bytes_per_s


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """How fast a cluster can read hit KV, all nodes together, and the link that allows no more."""

    read_bytes_per_s: float
    link: LinkKind
    utilisation: dict[LinkKind, float]  # of each kind at that rate; 1.0 is full


@dataclass(frozen=True, slots=True)
class BottleneckFreeRange:
    """Prefill nodes per decode node (P/D) at which all SNICs can read at full rate; ``low`` > ``high``: at none.

    Below ``low``, ``low_link`` is the first link to saturate, above ``high`` it is ``high_link``.
    """

    low: float
    high: float
    low_link: LinkKind
    high_link: LinkKind

    @property
    def is_empty(self) -> bool:
        return self.low > self.high

    def contains(self, prefill_nodes: int, decode_nodes: int) -> bool:
        return self.low <= prefill_nodes / decode_nodes <= self.high


def link_loads(
    node: NodeLinks,
    prefill_nodes: int,
    decode_nodes: int,
    pe_read_bytes_per_s: float,
    de_read_bytes_per_s: float,
    new_per_hit: float = 0.0,
) -> dict[LinkKind, float]:
    """Bytes per second on one link of every kind.

    Args:   pe_read_bytes_per_s, de_read_bytes_per_s: hit KV that all prefill, all decode nodes together read from storage;
            new_per_hit: new KV computed per byte of hit KV (1.3 % in the paper's traces; section 4.2 neglects it).
    Raises: ConfigError when there is no prefill or no decode node, or a rate is negative.
    """
    _check_nodes(prefill_nodes, decode_nodes)
    if min(pe_read_bytes_per_s, de_read_bytes_per_s, new_per_hit) < 0:
        raise ConfigError("read rates and new_per_hit must not be negative")
    loads = dict.fromkeys(LinkKind, 0.0)
    for path, rate in ((ReadPath.PE, pe_read_bytes_per_s), (ReadPath.DE, de_read_bytes_per_s)):
        for link, load in link_bytes(HOPS[path] + PERSIST_PROMPT, rate, rate * new_per_hit).items():
            nodes = prefill_nodes if link.role is Role.PREFILL else decode_nodes
            loads[link] += load / (nodes * node.gpus if link.is_cnic else nodes)
    return loads


def read_limit(
    node: NodeLinks, prefill_nodes: int, decode_nodes: int, pe_share: float, new_per_hit: float = 0.0
) -> ReadLimit:
    """The highest rate of reads when ``pe_share`` of the bytes take the PE read path (1.0: the single path).

    Raises: ConfigError when there is no prefill or no decode node, or the share is not in [0, 1].
    """
    if not 0 <= pe_share <= 1:
        raise ConfigError(f"pe_share: {pe_share} is no share of the reads; it must be between 0 and 1")
    loads = link_loads(node, prefill_nodes, decode_nodes, pe_share, 1 - pe_share, new_per_hit)
    need = {link: load / node.capacity(link) for link, load in loads.items()}  # seconds per byte read
    full = max(need, key=lambda link: need[link])
    return ReadLimit(1 / need[full], full, {link: used / need[full] for link, used in need.items()})


def pooled_share(prefill_nodes: int, decode_nodes: int) -> float:
    """Share of the PE read path when all SNICs read at the same rate: P / (P + D)."""
    _check_nodes(prefill_nodes, decode_nodes)
    return prefill_nodes / (prefill_nodes + decode_nodes)


def bottleneck_free_range(node: NodeLinks, new_per_hit: float = 0.0) -> BottleneckFreeRange:
    """P/D at which no link but the SNICs saturates while all SNICs read at full rate (section 4.2).

    With one prefill and one decode node, a link carries ``own`` from the reads of its own side and ``other`` from those of
    the other side. At r = P/D there are r times as many prefill nodes for a decode node to serve, so a decode node's
    link carries own + r * other, and a prefill node's own + other / r.
    """
    own_of = {
        Role.PREFILL: link_loads(node, 1, 1, node.snic_bytes_per_s, 0, new_per_hit),
        Role.DECODE: link_loads(node, 1, 1, 0, node.snic_bytes_per_s, new_per_hit),
    }
    lows: dict[LinkKind, float] = {}
    highs: dict[LinkKind, float] = {}
    for link in LinkKind:
        if link in SNIC_READS:
            continue
        is_pe = link.role is Role.PREFILL
        own = own_of[link.role][link]
        other = own_of[Role.DECODE if is_pe else Role.PREFILL][link]
        room = node.capacity(link) - own
        if is_pe:
            lows[link] = inf if room < 0 or (other and not room) else other / room if other else 0.0
        else:
            highs[link] = 0.0 if room < 0 else room / other if other else inf
    low_link = max(lows, key=lambda link: lows[link])
    high_link = min(highs, key=lambda link: highs[link])
    return BottleneckFreeRange(lows[low_link], highs[high_link], low_link, high_link)


def _check_nodes(prefill_nodes: int, decode_nodes: int) -> None:
    for name, nodes in (("prefill_nodes", prefill_nodes), ("decode_nodes", decode_nodes)):
        if nodes < 1:
            raise ConfigError(f"{name}: a cluster needs at least one, not {nodes}")
