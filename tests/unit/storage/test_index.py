from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dualpath_ray.kv.keys import ROOT
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader
from dualpath_ray.storage.index import BlockIndex

LAYOUT = KvLayout(1, 1, 1)
CAPACITY = 8
# A trie: three chains of four blocks, of which two share their first block.
PARENT = {}
for chain in ("a", "b"):
    for depth in range(4):
        PARENT[f"{chain}{depth}"] = f"{chain}{depth - 1}" if depth else ""
PARENT.update({"c1": "a0", "c2": "c1", "c3": "c2"})


def key(name):
    return name.encode().ljust(32, b".") if name else ROOT


def entry(name, version=0, trajectory=None):
    return (key(name), key(PARENT[name]), version, trajectory or name[0])


def chain_to(name):
    names = [name]
    while PARENT[names[0]]:
        names.insert(0, PARENT[names[0]])
    return names


def filled(capacity, *names):
    index = BlockIndex(capacity)
    for now, name in enumerate(names):
        assert index.begin_write([entry(name)], float(now)).to_write == (key(name),)
        assert index.commit([key(name)]) == ()
    return index


def present(index):
    return {name for name in PARENT if index.is_committed(key(name)) or index.is_writing(key(name))}


class IndexMachine(RuleBasedStateMachine):
    """Any order of calls, against a plain model of what must hold."""

    def __init__(self):
        super().__init__()
        self.index = BlockIndex(CAPACITY)
        self.now = 0.0
        self.here = {}  # name -> committed
        self.pins = {}  # attempt -> names

    def tick(self):
        self.now += 1
        return self.now

    @rule(leaf=st.sampled_from(sorted(PARENT)), version=st.integers(0, 2))
    def begin_write(self, leaf, version):
        names = chain_to(leaf)
        before = dict(self.here)
        plan = self.index.begin_write([entry(name, version) for name in names], self.tick())
        evicted = [k.rstrip(b".").decode() for k in plan.evict]
        written = [k.rstrip(b".").decode() for k in plan.to_write]
        pinned = {name for held in self.pins.values() for name in held}
        assert not pinned & set(evicted)
        assert not set(names) & set(evicted), "evicted what this very batch needs"
        for name in evicted:
            assert before[name], "evicted a block that is being written"
            del before[name]
            assert not [child for child in before if PARENT[child] == name], "evicted before its children"
        assert written == [name for name in names if name not in self.here and key(name) not in plan.refused]
        if plan.refused:
            first = min(names.index(k.rstrip(b".").decode()) for k in plan.refused)
            assert all(key(name) in plan.refused or name in self.here for name in names[first:])
        self.here = {**before, **dict.fromkeys(written, False)}
        again = self.index.begin_write([entry(name, version) for name in names if name in self.here], self.now)
        assert again.to_write == again.evict == again.refused == ()

    @rule(names=st.sets(st.sampled_from(sorted(PARENT))))
    def commit(self, names):
        unknown = self.index.commit([key(name) for name in names])
        assert set(unknown) == {key(name) for name in names if name not in self.here}
        self.here.update(dict.fromkeys(names & set(self.here), True))

    @rule(names=st.sets(st.sampled_from(sorted(PARENT))))
    def abort(self, names):
        gone = {name for name in names if self.here.get(name) is False}
        assert set(self.index.abort([key(name) for name in names])) == set(map(key, gone))
        self.here = {name: done for name, done in self.here.items() if name not in gone}

    @rule(names=st.sets(st.sampled_from(sorted(PARENT)), max_size=2))
    def invalidate(self, names):
        gone = {name for name in names if self.here.get(name)}
        assert set(self.index.invalidate([key(name) for name in names])) == set(map(key, gone))
        self.here = {name: done for name, done in self.here.items() if name not in gone}
        for held in self.pins.values():
            held -= gone

    @rule(leaf=st.sampled_from(sorted(PARENT)), attempt=st.sampled_from("xyz"))
    def lookup_and_pin(self, leaf, attempt):
        names = chain_to(leaf)
        found = self.index.lookup([key(name) for name in names], self.tick())
        assert found == [name in self.here for name in names]
        run = found.index(False) if False in found else len(found)
        self.index.pin(attempt, [key(name) for name in names[:run]])
        self.pins.setdefault(attempt, set()).update(names[:run])

    @rule(attempt=st.sampled_from("xyz"))
    def unpin(self, attempt):
        self.index.unpin(attempt)
        self.pins.pop(attempt, None)

    @rule(trajectory=st.sampled_from("abc"))
    def end_trajectory(self, trajectory):
        self.index.end_trajectory(trajectory)

    @rule(version=st.integers(0, 2))
    def set_weights_version(self, version):
        self.index.set_weights_version(version)

    @precondition(lambda self: self.here)
    @rule()
    def restart(self):
        headers = [
            (SealedHeader(LAYOUT, 0, key(name), key(PARENT[name])), float(i))
            for i, (name, done) in enumerate(self.here.items())
            if done
        ]
        self.index = BlockIndex(CAPACITY)
        assert self.index.restore(headers) == ()
        self.here = {name: True for name, done in self.here.items() if done}
        self.pins = {}

    @rule()
    def clear(self):
        assert set(self.index.clear()) == set(map(key, self.here))
        self.here, self.pins = {}, {}

    @invariant()
    def holds_what_the_model_holds_within_capacity(self):
        assert present(self.index) == set(self.here)
        assert self.index.stats()["num_blocks"] == len(self.here) <= CAPACITY
        assert self.index.stats()["num_writing"] == sum(not done for done in self.here.values())


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_least_recently_used_goes_first():
    index = filled(3, "a0", "b0", "c1")
    index.lookup([key("a0")], 10.0)
    index.unpin("nobody")
    assert index.begin_write([entry("c2")], 11.0).evict == (key("b0"),)


def test_a_chain_goes_from_its_leaf_though_used_at_one_time():
    index = filled(4, "a0", "a1", "a2", "a3")
    index.lookup([key(f"a{i}") for i in range(4)], 9.0)
    plan = index.begin_write([entry("b0"), entry("b1"), entry("b2")], 10.0)
    assert plan.evict == (key("a3"), key("a2"), key("a1"))


def test_the_deeper_of_two_blocks_without_a_common_parent_here_goes_first():
    index = filled(2, "a1", "a3")  # a2 lives on another shard
    index.lookup([key("a1"), key("a3")], 5.0)
    assert index.begin_write([entry("b0")], 6.0).evict == (key("a3"),)


def test_old_weights_then_ended_trajectories_then_the_least_recently_used():
    index = BlockIndex(4)
    index.begin_write([entry("a0", version=2)], 1.0)
    index.begin_write([entry("b0", version=2, trajectory="over")], 2.0)
    index.begin_write([entry("b1", version=1)], 3.0)
    index.commit([key("a0"), key("b0"), key("b1")])
    index.set_weights_version(2)
    index.end_trajectory("over")
    plan = index.begin_write([entry("c1", 2), entry("c2", 2), entry("c3", 2), entry("a1", 2)], 4.0)
    assert plan.evict == (key("b1"), key("b0"))
    assert plan.refused == (key("a1"),)  # a0 is its parent, and stays


def test_a_block_asked_for_after_its_trajectory_ended_counts_as_live():
    index = filled(2, "a0", "b0")
    index.end_trajectory("b")
    index.lookup([key("b0")], 5.0)
    assert index.begin_write([entry("c3", trajectory="x")], 6.0).evict == (key("a0"),)


def test_restore_beyond_capacity_names_what_must_go():
    headers = [(SealedHeader(LAYOUT, 0, key(f"a{i}"), key(PARENT[f"a{i}"])), 10.0 - i) for i in range(4)]
    index = BlockIndex(2)
    assert index.restore(headers) == (key("a3"), key("a2"))


@given(order=st.permutations(sorted(PARENT)))
def test_restore_gives_the_same_lookups_in_any_order(order):
    index = BlockIndex(20)
    index.restore((SealedHeader(LAYOUT, 0, key(name), key(PARENT[name])), 1.0) for name in order)
    assert all(index.lookup([key(name) for name in order], 2.0))


def test_many_touches_do_not_make_it_grow():
    index = filled(4, "a0", "a1", "b0", "b1")
    for now in range(2000):
        index.lookup([key("a1"), key("b1")], float(now))
    assert index.stats()["num_eviction_entries"] < 200
