"""A GPU engine's memory and attention against plain transformers on the same GPU: both read paths, chunks, decoding."""

import secrets
import threading

import numpy as np
import pytest
import torch

from dualpath_ray.base.types import ReadPath
from dualpath_ray.engine.describe import describe
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import SHM_DIR, Segment
from dualpath_ray.traffic.copies import batch_rows, plan_rows
from dualpath_ray.traffic.messages import LayerIn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZE = 16  # tokens of a block
LENGTHS = (150, 33, 70)
MODELS = [
    (model, dtype, dtype, layerwise)
    for model in ("toy-qwen2", "toy-deepseek-v3", "toy-deepseek-v3.2")
    for dtype in ("float32", "bfloat16")
    for layerwise in (True, False)
]
MODELS += [
    ("toy-qwen2", "bfloat16", "float8_e4m3", True),
    ("toy-deepseek-v3", "float32", "bfloat16", True),
    ("toy-deepseek-v3.2", "bfloat16", "float8_e4m3", True),
]


class Manager:
    """Stands for the traffic manager: every region is free at once, with what is put there."""

    def __init__(self, layout, num_slots, num_rows):
        self.layout = layout
        self.region_bytes = num_rows * layout.bytes_per_token_layer
        path = SHM_DIR / f"dualpath-test.{secrets.token_hex(4)}"
        self.segment = Segment.create(path, layout, num_slots, layout.num_layers * self.region_bytes, "test")
        self.segment.unlink()
        self.out = []

    def offset(self, layer):
        return self.segment.staging_offset + layer * self.region_bytes

    def rows(self, layer):
        start = self.offset(layer)
        return self.segment.bytes[start : start + self.region_bytes].reshape(-1, self.layout.bytes_per_token_layer)

    def grant_all(self, kv, batch):
        for layer in range(self.layout.num_layers):
            kv.on_layer_in(LayerIn(batch, layer, self.offset(layer), 0.0))


@pytest.fixture(params=MODELS, ids=lambda each: "-".join(map(str, each)))
def setting(request):
    from dualpath_ray.engine.hbm.layerwise import HbmBatches
    from dualpath_ray.engine.hbm.page_lock import unlock
    from dualpath_ray.engine.hbm.pool_access import PoolAccess
    from dualpath_ray.engine.model import ModelAdapter, load_model

    model, dtype, stored, layerwise = request.param
    description = describe(model, dtype, 0)
    layout = KvLayout(description.num_layers, SIZE, description.bytes_per_token_layer(stored))
    manager = Manager(layout, 32, sum(LENGTHS))
    adapter = ModelAdapter(description, dtype, 0, "cuda", stored)
    plain = Plain(load_model(model, adapter.dtype, 0, "cuda"), adapter.kv_type)
    prompts = [np.random.default_rng(i).integers(2, 500, n).tolist() for i, n in enumerate(LENGTHS)]
    access = PoolAccess(manager.segment)
    batches = HbmBatches(access, 0, layerwise, manager.out.append)
    yield manager, adapter, plain, prompts, batches, access
    torch.cuda.synchronize()
    unlock(manager.segment.bytes)


class Plain:
    """transformers by itself, its KV rounded as the engine stores it."""

    def __init__(self, model, kv_type):
        self.model, self.kv_type = model, kv_type

    def logits(self, tokens):
        from dualpath_ray.engine.rounded_cache import RoundedCache

        cache = RoundedCache(self.kv_type, self.model.config)
        with torch.inference_mode():
            out = self.model(input_ids=torch.tensor([tokens], device="cuda"), past_key_values=cache, use_cache=True)
        return out.logits[0].float().cpu()


def values(adapter, rows):
    """Stored rows as numbers."""
    return torch.from_numpy(rows).view(adapter.kv_type.stored).float()


def spread(adapter):
    """How far stored values may be apart: a rounding may go the other way."""
    return adapter.dtype if not adapter.kv_type.converts else torch.bfloat16


def near(ours, theirs, dtype):
    """Within what another order of sums makes of it."""
    limit = 1e-3 if dtype is torch.float32 else 0.06
    return bool((ours - theirs).abs().max() < limit)


def prefill(manager, adapter, batches, chunks, slots, number):
    """(logits, HbmBatchKv) of a batch. Args: chunks: (path, hit, start, stop, tokens)."""
    plans = plan_rows([(path, hit, start, stop) for path, hit, start, stop, _ in chunks])
    assert batch_rows(plans) * manager.layout.bytes_per_token_layer <= manager.region_bytes
    kv = batches.batch(number, plans, slots)
    threading.Timer(0.01, manager.grant_all, (kv, number)).start()
    logits = adapter.forward(
        [tokens[start:stop] for _, _, start, stop, tokens in chunks],
        [start for _, _, start, _, _ in chunks],
        kv,
        range(len(chunks)),
    )
    kv.finish()
    return logits, kv, plans


def rows_of(manager, plans):
    """Per layer and request what the batch left in its regions."""
    layers = range(manager.layout.num_layers)
    return [[manager.rows(layer)[p.new_row : p.end_row].copy() for p in plans] for layer in layers]


def test_prefill_and_decode_are_the_plain_model(setting):
    from dualpath_ray.engine.hbm.sequences import HbmSequences

    manager, adapter, plain, prompts, batches, access = setting
    segment, layout, dtype = manager.segment, manager.layout, adapter.dtype
    whole = [(ReadPath.PE, 0, 0, len(p), p) for p in prompts]
    logits, kv, plans = prefill(manager, adapter, batches, whole, [(), (), ()], 1)
    expected = torch.stack([plain.logits(p)[-1] for p in prompts])
    assert near(logits, expected, dtype)
    assert [out.layer for out in manager.out] == list(range(layout.num_layers))
    layers = layout.num_layers if not batches.layerwise else min(3, layout.num_layers)
    held = layers * sum(LENGTHS) * layout.bytes_per_token_layer
    assert batches.meter.now_bytes == batches.meter.peak_bytes == held
    computed = rows_of(manager, plans)

    # Blocks of the three prompts into slots of their own, in no order.
    order = iter(np.random.default_rng(3).permutation(segment.num_slots))
    slots = [[int(next(order)) for _ in range(-(-n // SIZE))] for n in LENGTHS]
    for request, mine in enumerate(slots):
        for block, slot in enumerate(mine):
            for layer in range(layout.num_layers):
                rows = computed[layer][request][block * SIZE : (block + 1) * SIZE]
                segment.full_block(slot)[layer, : len(rows)] = rows

    # One hits on the PE path, one on the DE path, one is at its second chunk and brings its first back.
    hits = [128, 32, 0]
    starts = [128, 32, 48]
    paths = [ReadPath.PE, ReadPath.DE, ReadPath.PE]
    chunks = [(path, hit, start, len(p), p) for path, hit, start, p in zip(paths, hits, starts, prompts, strict=True)]
    plans = plan_rows([(path, hit, start, stop) for path, hit, start, stop, _ in chunks])
    for layer in range(layout.num_layers):
        manager.rows(layer)[:] = 255
        for plan, rows in zip(plans, computed[layer], strict=True):
            manager.rows(layer)[plan.first_row : plan.new_row] = rows[plan.local_tokens : plan.start]
    found, kv, plans = prefill(manager, adapter, batches, chunks, [slots[0][: 128 // SIZE], (), ()], 2)
    assert near(found, expected, dtype) and kv.loads and len(kv.times.load) == layout.num_layers
    for layer, new in enumerate(rows_of(manager, plans)):
        for request, rows in enumerate(new):
            ours = values(adapter, rows)
            theirs = values(adapter, computed[layer][request][starts[request] :])
            assert near(ours, theirs, spread(adapter)), (layer, request)

    # All three decode together; the second ends first, and a fourth that needs its room moves the third.
    sequences = HbmSequences(access, sum(LENGTHS) + 3 * 8 + 4)
    loads = [sequences.load(mine, len(p), 8, 1) for mine, p in zip(slots, prompts, strict=True)]
    with pytest.raises(AssertionError, match="does not fit"):
        sequences.load(slots[0], LENGTHS[0], 8, 1)
    for load in loads:
        load.wait()
        assert load.done()
    contexts = [[*p, int(row.argmax())] for p, row in zip(prompts, logits, strict=True)]
    kvs = [load.kv[0] for load in loads]
    for _ in range(3):
        step(adapter, plain, sequences, contexts, kvs)
    sequences.free(kvs.pop(1))
    contexts.pop(1)
    again = sequences.load(slots[1], LENGTHS[1], 12, 1)
    again.wait()
    kvs.append(again.kv[0])
    contexts.append([*prompts[1], int(logits[1].argmax())])
    for _ in range(3):
        step(adapter, plain, sequences, contexts, kvs)
    free = next(int(slot) for slot in order)
    sequences.copy_out(kvs[0], 128, free)
    ours = values(adapter, segment.full_block(free).copy())
    layers = [rows[0][128 : 128 + SIZE] for rows in computed]
    assert near(ours, values(adapter, np.stack(layers)), spread(adapter))


def step(adapter, plain, sequences, contexts, kvs):
    """One token for each, which must be what the plain model gives on the same context."""
    tokens = [len(context) - 1 for context in contexts]
    kv = sequences.step(list(zip(kvs, tokens, strict=True)))
    logits = adapter.decode([context[-1] for context in contexts], tokens, kv)
    for context, row in zip(contexts, logits, strict=True):
        assert near(row, plain.logits(context)[-1], adapter.dtype)
        context.append(int(row.argmax()))


def test_samples_share_a_prompt_and_no_more(setting):
    from dualpath_ray.engine.hbm.sequences import HbmSequences

    manager, adapter, plain, prompts, batches, access = setting
    prompt = prompts[2]
    logits, _, plans = prefill(manager, adapter, batches, [(ReadPath.PE, 0, 0, len(prompt), prompt)], [()], 1)
    slots = list(range(5))
    for layer, rows in enumerate(rows_of(manager, plans)):
        for slot in slots:
            part = rows[0][slot * SIZE : (slot + 1) * SIZE]
            manager.segment.full_block(slot)[layer, : len(part)] = part
    sequences = HbmSequences(access, 3 * (len(prompt) + 4))
    load = sequences.load(slots, len(prompt), 4, 3)
    load.wait()
    contexts = [[*prompt, 7 + i] for i in range(3)]
    for _ in range(3):
        step(adapter, plain, sequences, contexts, load.kv)


def test_the_first_layers_of_the_next_batch_come_while_one_computes(setting):
    manager, adapter, plain, prompts, batches, _ = setting
    logits, _, plans = prefill(
        manager, adapter, batches, [(ReadPath.PE, 0, 0, len(p), p) for p in prompts], [(), (), ()], 1
    )
    slots = []
    for request, (rows, hit) in enumerate(zip(zip(*rows_of(manager, plans), strict=True), (128, 32, 64), strict=True)):
        mine = [10 * request + block for block in range(hit // SIZE)]
        for block, slot in enumerate(mine):
            full = manager.segment.full_block(slot)
            for layer, of_layer in enumerate(rows):
                full[layer] = of_layer[block * SIZE : (block + 1) * SIZE]
        slots.append((hit, mine))
    begun = []

    def begin():
        """The next prompt's batch, larger than the one before or smaller."""
        if len(begun) == len(prompts):
            return
        hit, mine = slots[len(begun)]
        number = 2 + len(begun)
        [plan] = plan_rows([(ReadPath.PE, hit, hit, len(prompts[len(begun)]))])
        kv = batches.batch(number, [plan], [mine], begin)
        manager.grant_all(kv, number)
        begun.append(kv)

    begin()
    for request, prompt in enumerate(prompts):
        hit = slots[request][0]
        torch.cuda._sleep(20_000_000)  # ten milliseconds: what does not wait for the model writes over what it reads
        found = adapter.forward([prompt[hit:]], [hit], begun[request], [0])
        early = len(begun)
        begun[request].finish()
        assert near(found[0], plain.logits(prompt)[-1], adapter.dtype)
        if request + 1 < len(prompts):
            assert early == request + (2 if batches.layerwise else 1)
            if not batches.layerwise:
                begin()
