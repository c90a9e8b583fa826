"""The Python API: streaming, samples, cancelling, sharing, weights, connecting by name."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from dualpath_ray import SamplingParams, connect
from dualpath_ray.base.errors import ConfigError, RequestRefusedError
from dualpath_ray.cluster import attach
from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.system import System
from dualpath_ray.engine.verify import PlainModel
from dualpath_ray.ops.lifecycle.change import set_value
from dualpath_ray.workload.trajectory import Trajectory
from tests.ray.systems import BASE, CONTEXT, running, trajectories

pytestmark = pytest.mark.ray
PROMPT = np.random.default_rng(5).integers(16, 500, 100).astype(np.int32)


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[System, Client]]:
    with running() as pair:
        yield pair


def test_stream_samples_logprobs_and_stop(up: tuple[System, Client]) -> None:
    _, client = up
    greedy = SamplingParams(max_tokens=6, ignore_end=True)
    generation = client.generate(PROMPT, greedy, "a")
    streamed = [(t.index, t.token_id) for t in generation]
    sample = generation.result(30)[0]
    assert streamed == list(enumerate(sample.token_ids)) and len(sample.token_ids) == 6
    assert all(p < 0 for p in sample.logprobs) and sample.finish_reason == "length"
    drawn = SamplingParams(max_tokens=6, temperature=1.0, top_p=0.9, seed=3, num_samples=3, ignore_end=True)
    first, second = (client.generate(PROMPT, drawn, "a").result(30) for _ in range(2))
    assert [s.token_ids for s in first] == [s.token_ids for s in second]
    assert len({tuple(s.token_ids) for s in first}) > 1
    stop = SamplingParams(max_tokens=6, ignore_end=True, stop_token_ids=(sample.token_ids[2],))
    stopped = client.generate(PROMPT, stop, "a").result(30)[0]
    assert stopped.finish_reason == "stop" and stopped.token_ids == sample.token_ids[: len(stopped.token_ids)]
    assert stopped.token_ids[-1] == sample.token_ids[2]


def test_samples_share_one_read_of_their_prefix(up: tuple[System, Client]) -> None:
    system, client = up
    client.generate(PROMPT, SamplingParams(max_tokens=2, ignore_end=True), "s").result(30)
    before = sum(n["read_bytes"] for n in system.status()["nodes"].values())
    four = SamplingParams(max_tokens=4, num_samples=4, temperature=1.0, ignore_end=True)
    generation = client.generate(PROMPT, four, "s")
    assert len(generation.result(30)) == 4
    read = sum(n["read_bytes"] for n in system.status()["nodes"].values()) - before
    assert read == generation.request.hit_tokens // 16 * system.plan.layout.sealed_bytes


def test_samples_share_the_prompt_and_store_whole_blocks(up: tuple[System, Client]) -> None:
    """A block whose first tokens are the shared prompt's and whose last are a sample's own is right when read back."""
    system, client = up
    prompt = PROMPT[::-1]
    two = SamplingParams(max_tokens=40, num_samples=2, ignore_end=True)
    first, second = client.generate(prompt, two, "h").result(30)
    assert first.token_ids == second.token_ids  # both greedy
    context = [*prompt.tolist(), *first.token_ids]
    again = client.generate(context, SamplingParams(max_tokens=8, ignore_end=True), "h")
    answer = again.result(30)[0].token_ids
    assert again.request.hit_tokens == 128 and again.facts["hit_blocks"] == 8
    spans = [(len(prompt), len(context)), (len(context), len(context) + 8)]
    plain = PlainModel(system.plan.description, system.plan.config.seed)
    assert plain.check([*context, *answer], spans)[2] == 0


def test_cancel_ends_a_request_and_frees_everything(up: tuple[System, Client]) -> None:
    system, client = up
    long = SamplingParams(max_tokens=300, ignore_end=True)
    running_one = client.generate(PROMPT, long, "c")
    next(iter(running_one))
    running_one.cancel()
    assert running_one.result(30)[0].finish_reason == "cancelled"
    at_once = [client.generate(PROMPT, long, "c") for _ in range(4)]
    for generation in at_once:
        generation.cancel()
    assert all(g.result(30)[0].finish_reason == "cancelled" for g in at_once)
    after = client.generate(PROMPT, SamplingParams(max_tokens=3, ignore_end=True), "c")
    assert len(after.result(30)[0].token_ids) == 3
    assert all(n["free_slots"] + n["writing_blocks"] == n["num_slots"] for n in system.status()["nodes"].values())


def test_a_client_that_goes_away_leaves_the_system_usable(up: tuple[System, Client]) -> None:
    system, _ = up
    params = SamplingParams(max_tokens=4, ignore_end=True)
    gone = Client(system)
    gone.generate(PROMPT, params, "g")
    gone.close()
    other = Client(system)
    assert len(other.generate(PROMPT, params, "u").result(60)[0].token_ids) == 4
    other.close()


def test_new_weights_hit_no_old_block(up: tuple[System, Client]) -> None:
    system, client = up
    params = SamplingParams(max_tokens=2, ignore_end=True)
    assert (
        client.generate(PROMPT, params, "w").result(30) and client.generate(PROMPT, params, "w").request.hit_tokens > 0
    )
    other = Client(system)
    client.update_weights(1)
    fresh = client.generate(PROMPT, params, "w")
    fresh.result(30)
    assert fresh.request.hit_tokens == 0
    again = client.generate(PROMPT, params, "w")
    again.result(30)
    assert again.request.hit_tokens > 0
    later = Client(system)
    assert later.weights_version == 1
    same = later.generate(PROMPT, params, "w")
    same.result(30)
    assert same.request.hit_tokens == again.request.hit_tokens
    later.close()
    deadline = time.monotonic() + 60
    while other.weights_version != 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert other.weights_version == 1, "whoever was connected hears of it"
    other.close()
    with pytest.raises(RequestRefusedError, match="older"):
        client.update_weights(0)


def test_a_rollout_counts_what_it_read_itself(up: tuple[System, Client]) -> None:
    _, client = up
    work = trajectories(2, 3)
    for _ in range(2):
        record = client.rollout(work)
        read = sum(nbytes for spans in record.read_spans.values() for _, _, nbytes in spans)
        assert read == sum(record.snic_read_bytes.values()) == sum(t.snic_read_bytes for t in record.turns) > 0
    with pytest.raises(RequestRefusedError, match="t0 is there more than once"):
        client.rollout([*work, work[0]])


def test_a_rollout_is_called_after_the_read_paths_that_it_had(up: tuple[System, Client]) -> None:
    system, client = up
    (first,) = trajectories(1, 2)
    later = replace(first.turns[1], tool_delay_s=2.0)  # it is told how far it is before
    work = [Trajectory("flipped", (first.turns[0], later))]
    try:
        record = client.rollout(
            work, lambda progress: set_value(system.name, "read_path", "prefill_only", lambda _: None)
        )
        assert record.mode == record.read_path == "scheduled, then prefill_only"
    finally:
        set_value(system.name, "read_path", "scheduled", lambda _: None)
    assert client.rollout(trajectories(1, 1)).mode == "scheduled"


def test_connect_by_name_checks_the_fingerprint(up: tuple[System, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    system, _ = up
    other = connect(system.name, config=BASE)
    fresh = np.arange(20, 60)
    assert len(other.generate(fresh, SamplingParams(max_tokens=2, ignore_end=True), "n").result(30)[0].token_ids) == 2
    other.close()
    with pytest.raises(ConfigError, match="fingerprint"):
        connect(system.name, config={**BASE, "block_tokens": 32})
    with pytest.raises(ConfigError, match="no system 'elsewhere'"):
        connect("elsewhere")
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="of code, but yours has 0123"):
        patched.setattr(attach, "code_fingerprint", lambda: "0123")
        connect(system.name)


@pytest.mark.parametrize(
    ("tokens", "params", "names"),
    [
        ([], SamplingParams(), "empty"),
        ([600], SamplingParams(), "vocabulary"),
        ([20] * 500, SamplingParams(max_tokens=CONTEXT), "engine.max_context_tokens"),
        ([20] * 400, SamplingParams(max_tokens=100, num_samples=100), "engine.hbm_kv_bytes"),
    ],
)
def test_what_can_never_run_is_refused_at_the_edge(
    up: tuple[System, Client], tokens: list[int], params: SamplingParams, names: str
) -> None:
    with pytest.raises(RequestRefusedError, match=names):
        up[1].generate(tokens, params, "r")
