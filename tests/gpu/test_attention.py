"""FlashInfer's attention gives what torch's kernel gives, wherever requests' rows stand."""

from dataclasses import dataclass, field

import pytest
import torch

from dualpath_ray.engine.attention import varlen_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

HEADS, DIM = 8, 128
NEW, TOTALS = (40, 1, 130), (300, 77, 130)


@dataclass(eq=False)
class Requests:
    """What attention asks of a cache, of rows that begin at ``firsts``."""

    rows: torch.Tensor
    widths: tuple[int, int, int]  # heads of keys, elements of a key, elements of a value
    firsts: tuple[int, ...]
    max_new: int = max(NEW)
    max_keys: int = 512
    spans: list = field(init=False)
    ranges: list = field(init=False)

    def __post_init__(self):
        stops = torch.tensor([0, *NEW]).cumsum(0).tolist()
        self.spans = list(zip(stops[:-1], stops[1:], strict=True))
        self.ranges = list(zip(self.firsts, TOTALS, strict=True))
        index = {"dtype": torch.int32, "device": "cuda"}
        self.query_starts = torch.tensor(stops, **index)
        self.key_starts = torch.tensor([*self.firsts, 0], **index)
        self.key_counts = torch.tensor(TOTALS, **index)

    def memory(self, key, value):
        kv_heads, dim, value_dim = self.widths
        stop = kv_heads * dim
        keys, values = self.rows[:, :stop], self.rows[:, stop : stop + kv_heads * value_dim]
        return keys.unflatten(1, (kv_heads, dim)), values.unflatten(1, (kv_heads, value_dim))


def both(planned, cache, dim):
    query = torch.randn(1, HEADS, sum(NEW), dim, device="cuda").to(torch.bfloat16)
    call = {"query": query, "key": query, "value": query, "attention_mask": None, "scaling": dim**-0.5}
    found, wanted = (attend(None, dualpath_cache=cache, **call)[0].float() for attend in (planned, varlen_attention))
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 0.02


@pytest.mark.parametrize(
    "latent,kv_heads,dim,value_dim,firsts",
    [
        (False, 2, DIM, DIM, (0, 300, 377)),
        (False, 2, DIM, DIM, (211, 5, 600)),
        (True, HEADS, 192, DIM, (0, 300, 377)),
    ],
    ids=["packed", "scattered", "latent"],
)
def test_it_attends_as_torchs_kernel_does(latent, kv_heads, dim, value_dim, firsts):
    pytest.importorskip("flashinfer", reason="FlashInfer is not installed")
    from dualpath_ray.engine.planned_attention import PlannedAttention

    planned = PlannedAttention(latent)
    for seed in range(3):  # each cache is planned anew
        torch.manual_seed(seed)
        rows = torch.randn(800, kv_heads * (dim + value_dim), device="cuda").to(torch.bfloat16)
        cache = Requests(rows, (kv_heads, dim, value_dim), firsts)
        for _ in range(2):  # layers
            both(planned, cache, dim)


def test_decode_steps_keep_torchs_kernel():
    pytest.importorskip("flashinfer", reason="FlashInfer is not installed")
    from dualpath_ray.engine.planned_attention import PlannedAttention

    planned = PlannedAttention(latent=False)
    rows = torch.randn(800, 4 * DIM, device="cuda").to(torch.bfloat16)
    cache = Requests(rows, (2, DIM, DIM), (0, 300, 377), max_new=1)
    index = {"dtype": torch.int32, "device": "cuda"}
    cache.query_starts = torch.tensor([0, 1, 2, 3], **index)
    query = torch.randn(1, HEADS, 3, DIM, device="cuda").to(torch.bfloat16)
    call = {"query": query, "key": query, "value": query, "attention_mask": None, "scaling": DIM**-0.5}
    found, wanted = (attend(None, dualpath_cache=cache, **call)[0] for attend in (planned, varlen_attention))
    assert torch.equal(found, wanted)


def test_a_width_without_a_kernel_is_refused_at_once():
    from dualpath_ray.engine.planned_attention import faster_than_torch

    assert faster_than_torch(28, 4, 24, 24, False) is None
