"""Whole requests over both read paths, in random order of everything that happens."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath
from tests.unit.traffic.fake_engines import FakeRequest, next_token
from tests.unit.traffic.harness import Setup, World, world

RANDOM_ORDER = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
PATHS = [ReadPath.PE, ReadPath.DE]


@dataclass(frozen=True)
class Faults:
    """How often, per step: a block is damaged, a write fails, a request is cancelled; and if it is tried again.

    ``unended_reads``: how many reads do not end, in all.
    """

    damage: float = 0.0
    failing_write: float = 0.0
    cancel: float = 0.0
    retry: float = 0.0
    unended_reads: int = 0


class Drivers:
    """Trajectories of several turns, each turn submitted when the one before has ended."""

    def __init__(self, world: World, trajectories: int, turns: int) -> None:
        self.world, self.random, self._turns = world, world.random, turns
        world.on_ended = self._on_ended
        self._turn = dict.fromkeys((f"t{i}" for i in range(trajectories)), 0)
        self._system_prompt = [self.random.randrange(9) for _ in range(9)]
        self.exact_hits = True
        self._unended_reads = 0
        for name in self._turn:
            self._submit(name, self._system_prompt[: self.random.choice([0, 4, 9])])

    def _submit(self, name: str, context: list[int]) -> None:
        self._turn[name] += 1
        prompt = [*context, *(self.random.randrange(9) for _ in range(self.random.randint(1, 12)))]
        self._go(f"{name}#{self._turn[name]}", prompt, self.random.randint(1, 9), 1)

    def _go(self, request_id: str, prompt: list[int], gen_tokens: int, attempt: int) -> FakeRequest:
        nodes = {
            r: [(n, e) for n in self.world.nodes if n[0] == r for e in range(self.world.setup.engines)] for r in "pd"
        }
        prefill, decode = self.random.choice(nodes["p"]), self.random.choice(nodes["d"])
        path = self.random.choice(PATHS)
        return self.world.submit(request_id, prompt, gen_tokens, path, prefill, decode, attempt)

    def _on_ended(self, request: FakeRequest, tokens: tuple[int, ...] | None) -> None:
        if tokens is None:
            return
        expected = list(request.tokens)
        while len(expected) < len(request.tokens) + request.gen_tokens:
            expected.append(next_token(expected))
        assert list(tokens) == expected
        name = request.trajectory_id
        if self._turn[name] < self._turns:
            self._submit(name, list(tokens))
            if self.exact_hits:  # all whole blocks of the context so far; its last token has no KV yet
                hits = self.world.requests[f"{name}#{self._turn[name]}", 1].hit_blocks
                assert hits >= (len(tokens) - 1) // self.world.setup.layout.block_tokens

    def disturb(self, faults: Faults) -> None:
        """What goes wrong between two steps."""
        running = [key for key in self.world.requests if key not in self.world.ended]
        if self.random.random() < faults.damage:
            self.world.storage.damage(self.random)
        if self.random.random() < faults.failing_write:
            self.world.storage.failing_writes += 1
        if self._unended_reads < faults.unended_reads and self.random.random() < 0.02:
            self._unended_reads += 1
            self.world.unended_reads += 1
        if running and self.random.random() < faults.cancel:
            request_id, attempt = self.random.choice(running)
            self.world.cancel((request_id, attempt))
            latest = max(a for r, a in self.world.requests if r == request_id)
            if self.random.random() < faults.retry and attempt == latest:
                old = self.world.requests[request_id, attempt]
                self._go(request_id, list(old.tokens), old.gen_tokens, attempt + 1)


setups = st.builds(
    lambda setup, layers, extra: replace(
        setup, layout=replace(setup.layout, num_layers=layers), pe_slots=24 + extra, de_slots=24 + extra
    ),
    st.builds(
        Setup,
        prefill_nodes=st.integers(1, 2),
        decode_nodes=st.integers(1, 2),
        engines=st.integers(1, 2),
        depth=st.integers(1, 3),
        layerwise=st.booleans(),
        snic_bytes_per_s=st.sampled_from([None, 50_000.0]),
        cnic_bytes_per_s=st.sampled_from([None, 20_000.0]),
        charged=st.sampled_from([True, True, False]),
    ),
    st.integers(1, 4),
    st.sampled_from([0, 6, 60]),
)


def drive(setup: Setup, seed: int, trajectories: int, turns: int, faults: Faults = Faults()) -> World:  # noqa: B008
    with world(setup, seed) as made:
        drivers = Drivers(made, trajectories, turns)
        drivers.exact_hits = faults == Faults()
        made.run(until=partial(_never, drivers, faults))
        made.check_over()
        return made


def _never(drivers: Drivers, faults: Faults) -> bool:
    drivers.disturb(faults)
    return False


def _loaded_hits(engine) -> dict[tuple[str, int], int]:
    return getattr(engine, "loaded_hits", {})  # decode engines know them


seeds = st.integers(0, 2**32)


@RANDOM_ORDER
@given(setups, seeds, st.integers(1, 4), st.integers(1, 3))
def test_every_request_gets_its_own_kv_and_everything_is_given_back(setup, seed, trajectories, turns):
    made = drive(setup, seed, trajectories, turns)
    assert len(made.ended) == trajectories * turns
    assert made.total("load_failures") == 0


@RANDOM_ORDER
@given(setups, seeds, st.integers(2, 4))
def test_damaged_blocks_are_recomputed_and_counted_never_served(setup, seed, trajectories):
    made = drive(setup, seed, trajectories, 3, Faults(damage=0.01, failing_write=0.003))
    assert all(tokens is not None for tokens in made.ended.values())
    assert made.total("load_failures") >= made.counts["failed read"]
    causes = [node.core.status(made.now_s) for node in made.nodes.values()]
    assert sum(sum(status["load_failures_by_cause"].values()) for status in causes) == made.total("load_failures")
    loaded = {key: hit for node in made.nodes.values() for e in node.engines for key, hit in _loaded_hits(e).items()}
    lost = sum(made.requests[key].hit_blocks - hit for key, hit in loaded.items())
    recomputed = sum(sum(status["recomputed_tokens"].values()) for status in causes)
    assert recomputed == lost * setup.layout.block_tokens, (
        "a hit that ends early is computed again, and is counted once"
    )
    assert made.total("write_failures") == made.counts["failed write"]


@RANDOM_ORDER
@given(setups, seeds, st.integers(2, 5))
def test_cancelling_at_any_moment_frees_everything(setup, seed, trajectories):
    drive(setup, seed, trajectories, 3, Faults(cancel=0.01))


@RANDOM_ORDER
@given(setups, seeds, st.integers(2, 4), st.integers(1, 6))
def test_reads_that_do_not_end_cost_their_slots_and_keep_nobody_waiting(setup, seed, trajectories, unended_reads):
    room = replace(setup, pe_slots=24 + unended_reads, de_slots=24 + unended_reads)  # for the longest context
    made = drive(room, seed, trajectories, 3, Faults(unended_reads=unended_reads, damage=0.003, cancel=0.002))
    assert made.total("lost_slots") == made.counts["late read"]


@RANDOM_ORDER
@given(setups, seeds, st.integers(2, 4))
@example(  # the later attempt is over when the earlier one's SourceReady comes to the same engine
    Setup(
        prefill_nodes=2,
        decode_nodes=2,
        engines=2,
        depth=1,
        layerwise=False,
        snic_bytes_per_s=None,
        cnic_bytes_per_s=None,
        layout=replace(Setup.layout, num_layers=1),
        pe_slots=24,
        de_slots=24,
    ),
    189,
    4,
)
def test_attempts_of_one_request_do_not_meet(setup, seed, trajectories):
    drive(setup, seed, trajectories, 2, Faults(cancel=0.01, retry=0.8, damage=0.003, failing_write=0.003))


@RANDOM_ORDER
@given(seeds, st.integers(2, 5), st.integers(1, 3))
def test_a_full_store_keeps_nobody_waiting(seed, trajectories, capacity):
    drive(Setup(capacity_blocks=capacity), seed, trajectories, 3, Faults(cancel=0.002))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layerwise", [True, False])
def test_bytes_of_one_known_request(path, layerwise):
    """A turn that hits 5 blocks: what crosses each NIC, by hand."""
    setup = Setup(layerwise=layerwise)
    with world(setup, seed=1) as made:
        made.submit("t0#1", range(18), 4, ReadPath.PE)
        made.run()
        context = list(made.ended["t0#1", 1] or ())
        before = made.expected_cnic_bytes()
        made.submit("t0#2", [*context, 1, 2, 3], 1, path)
        made.run()
        made.check_over()
        assert made.requests["t0#2", 1].hit_blocks == 5
        reader = made.nodes["p0" if path is ReadPath.PE else "d0"].core.status(made.now_s)
        assert reader["read_bytes"] == 5 * setup.layout.sealed_bytes
        after = made.expected_cnic_bytes()
        assert after[1] - before[1] == (25 if path is ReadPath.PE else 5) * setup.layout.token_bytes


def _stored_context(made: World, tokens: int = 30) -> list[int]:
    """A context whose whole blocks are all in the store."""
    made.submit("first#1", range(tokens), 1, ReadPath.PE)
    made.run()
    made.counts.clear()
    return list(range(tokens))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seed", range(5))
def test_concurrent_requests_read_a_shared_block_once(path, seed):
    with world(seed=seed) as made:
        context = _stored_context(made)
        read_before = made.total("read_bytes")
        made.held.add("read")
        for i in range(3):
            made.submit(f"t{i}#1", [*context, i], 2, path)
        made.run()
        assert made.counts["read"] <= 7  # asked for once each, whoever wants them
        made.held.clear()
        made.run()
        assert made.counts["read"] == 7
        assert made.total("read_bytes") - read_before == 7 * made.setup.layout.sealed_bytes
        assert made.total("shared_blocks") == 14


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_block_that_is_being_written_is_waited_for(path, fails, seed):
    with world(seed=seed) as made:
        made.held.add("write")
        made.submit("t0#1", range(30), 2, ReadPath.PE)
        made.run()
        context = made.ended["t0#1", 1]  # over although nothing is written yet
        assert context is not None
        second = made.submit("t0#2", [*context, 5], 2, path)
        made.run()
        assert second.hit_blocks == 7 and all(second.being_written)
        assert made.counts["read"] == 0 and second.key not in made.ended
        made.held.clear()
        made.storage.failing_writes = 3 if fails else 0
        made.run()
        made.check_over()
        assert made.ended[second.key] is not None
        assert made.counts["read"] == (4 if fails else 7)
        assert made.total("load_failures") == (3 if fails else 0)


@pytest.mark.parametrize("path", PATHS)
def test_a_hit_ends_before_the_first_damaged_block(path):
    with world(seed=3) as made:
        context = _stored_context(made)
        keys = made.requests["first#1", 1].keys
        made.storage.store.delete(keys[4])
        made.submit("t0#1", [*context, 5], 2, path)
        made.run()
        assert made.ended["t0#1", 1] is not None
        decode = made.nodes["d0"].engines[0]
        assert decode.loaded_hits["t0#1", 1] == 4
        status = made.nodes["p0" if path is ReadPath.PE else "d0"].core.status(made.now_s)
        assert status["load_failures"] == 1 and status["load_failures_by_cause"] == {"missing": 1}
        assert status["recomputed_tokens"] == {"missing": 3 * made.setup.layout.block_tokens}
        made.submit("t1#1", [*context, 5], 2, path)  # the lost blocks were computed and stored again
        made.run()
        assert made.requests["t1#1", 1].hit_blocks == 7 and decode.loaded_hits["t1#1", 1] == 7


@pytest.mark.parametrize("seed", range(20))
def test_requests_that_lose_the_same_blocks_in_a_full_pool_all_end(seed):
    """Three requests share eight blocks of a pool with no slot to spare; the first of these blocks is lost."""
    with world(Setup(de_slots=11), seed=seed) as made:
        context = _stored_context(made, 33)
        made.storage.store.delete(made.requests["first#1", 1].keys[0])
        for i in range(3):
            made.submit(f"t{i}#1", [*context, i], 1, ReadPath.DE)
        made.run()
        assert None not in made.ended.values() and len(made.ended) == 4
        assert made.nodes["d0"].core.context.pool.num_free == 11


@pytest.mark.parametrize("seed", range(20))
def test_requests_that_lose_slots_leave_each_other_the_rest(seed):
    """Two requests fill the pool, and of their reads so many do not end that from then on there is room for one only."""
    with world(Setup(de_slots=12), seed=seed) as made:
        prompts = [[*range(at, at + 23)] for at in (0, 50)]
        for i, prompt in enumerate(prompts):
            made.submit(f"first{i}#1", prompt[:17], 1, ReadPath.PE)
        made.run()
        made.unended_reads = 6
        for i, prompt in enumerate(prompts):
            assert made.submit(f"t{i}#1", prompt, 1, ReadPath.DE).hit_blocks == 4
        made.run()
        made.check_over()
        assert None not in made.ended.values() and made.total("lost_slots") == 6


@pytest.mark.parametrize("lost", [1, 7])
def test_a_hit_that_lost_slots_leave_no_room_for_is_cut(lost):
    """The PE buffer holds exactly one longest hit, until reads that do not end keep some of its slots."""
    with world(Setup(pe_slots=7), seed=3) as made:
        context = _stored_context(made)
        made.unended_reads = lost
        made.submit("t0#1", [*context, 5], 2, ReadPath.PE)
        made.run()
        assert made.submit("t1#1", [*context, 6], 2, ReadPath.PE).hit_blocks == 7
        made.run()
        assert None not in made.ended.values() and len(made.ended) == 3
        assert made.nodes["d0"].engines[0].loaded_hits["t1#1", 1] == 7 - lost
        recomputed = made.nodes["p0"].core.status(made.now_s)["recomputed_tokens"]
        assert recomputed["no_room"] == lost * made.setup.layout.block_tokens
        assert made.nodes["p0"].core.context.pool.num_free == 7 - lost


@pytest.mark.parametrize("seed", range(20))
def test_a_request_that_waits_for_slots_goes_on_when_blocks_have_been_written(seed):
    """The prompt before keeps the pool until the storage NIC has taken its blocks; nothing else happens meanwhile."""
    with world(Setup(de_slots=10), seed=seed) as made:
        made.submit("t0#1", range(40), 1, ReadPath.PE)
        made.submit("t1#1", range(50, 90), 1, ReadPath.PE)
        made.run()
        made.check_over()


@pytest.mark.parametrize("path", PATHS)
def test_a_node_that_cannot_read_deletes_nothing_and_says_so(path):
    """Its way to the store is broken: the others' blocks are whole, and the scheduler must hear of it."""
    with world(seed=3) as made:
        context = _stored_context(made)
        stored = {header.key for header, _ in made.storage.store.scan()}
        made.unreadable = True
        made.submit("t0#1", [*context, 5], 1, path)
        reader = made.nodes["p0" if path is ReadPath.PE else "d0"].core.context
        made.run(until=lambda: not reader.can_read)
        assert not reader.can_read
        made.run(until=lambda: ("t0#1", 1) in made.ended)
        assert made.ended["t0#1", 1] is not None
        assert stored <= {header.key for header, _ in made.storage.store.scan()}
        made.unreadable = False
        made.run()
        assert reader.can_read, "after a while it is tried again"
        made.submit("t1#1", [*context, 5], 1, path)
        made.run()
        assert made.nodes["d0"].engines[0].loaded_hits["t1#1", 1] == 7


def test_the_index_is_called_once_for_many_blocks():
    """Blocks that are written while a call is out share the next one."""
    with world(Setup(snic_bytes_per_s=None), seed=1) as made:
        for i in range(3):
            made.submit(f"t{i}#1", range(100 * i, 100 * i + 40), 1, ReadPath.PE)
        made.held.add("index")
        made.run()
        made.held.clear()
        made.run()
        made.check_over()
        assert made.counts["write"] == 30
        assert made.index_calls["commit"] + made.index_calls["begin_write"] < 20
