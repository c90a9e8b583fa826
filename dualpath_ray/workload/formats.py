"""Readers of recorded traces: JSON Lines, plain or gzipped, one trajectory, session or request a line.

Four formats, told apart by the first line: explicit turns ``[append, gen, think_s?, ...]``; real text (``messages``
with roles); hashed requests of one session a line (``requests`` with ``hash_runs``); and single hashed requests in the
Mooncake form (``input_length``, ``hash_ids``). Everything is yielded lazily: a long trace holds billions of tokens.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload import chat
from dualpath_ray.workload.hash_runs import Run, expand, shared_blocks
from dualpath_ray.workload.token_ids import block_ids, random_ids, stable_seed
from dualpath_ray.workload.trajectory import TokenIds, Trajectory, Turn

Encode = Callable[[str], list[int]]
Record = dict[str, Any]
MOONCAKE_BLOCK_TOKENS = 512
MOST_TOKENS = 2**26  # of one turn: beyond any context, and ids of so many still fit into memory


def detect_format(record: Record) -> str:
    """``turns``, ``text``, ``sessions`` or ``mooncake``. Raises: ValueError when the keys fit none."""
    for key, name in (("turns", "turns"), ("messages", "text"), ("requests", "sessions"), ("hash_ids", "mooncake")):
        if key in record:
            return name
    raise ValueError("none of the keys turns, messages, requests and hash_ids")


def read_trace(path: Path, *, encode: Encode, vocab_size: int, seed: int) -> tuple[str, Iterator[Trajectory]]:
    """The format of a trace and its trajectories in file order.

    Args:   encode: text to token ids, adding no special tokens of its own; called for text traces only.
            seed: of the random ids of lengths-only traces; hashed traces do not depend on it.
    Raises: ConfigError naming file, line and what is wrong, here for the first line and while iterating for others.
    """
    lines = _records(path)
    try:
        first_number, first = next(lines)
    except StopIteration:
        raise ConfigError(f"{path}: the trace is empty") from None
    try:
        name = detect_format(first)
    except ValueError as error:
        raise ConfigError(f"{path} line {first_number}: {error}") from None

    def parse(number: int, record: Record) -> Iterator[Trajectory]:
        if name == "turns":
            return _from_turns(record, vocab_size, seed)
        if name == "text":
            return _from_messages(record, encode)
        if name == "sessions":
            return _from_session(record, vocab_size)
        return _from_mooncake(record, f"request-{number}", vocab_size)

    def trajectories() -> Iterator[Trajectory]:
        for number, record in _chain(first_number, first, lines):
            try:
                yield from parse(number, record)
            except KeyError as error:
                raise ConfigError(f"{path} line {number}: key {error} is missing") from None
            except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
                raise ConfigError(f"{path} line {number}: {error}") from None

    return name, trajectories()


def _chain(number: int, record: Record, rest: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
    yield number, record
    yield from rest


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """Numbered JSON objects of a file; empty lines are passed over."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(cast(TextIO, stream), start=1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ConfigError(f"{path} line {number}: not a JSON object")
                yield number, record
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} line {number}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} line {number + 1}: not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(f"{path} line {number + 1}: the gzip stream is broken ({error})") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def _count(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{what} must be a whole number of tokens up to {MOST_TOKENS}, not {value!r}")
    return value


def _delay_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"a tool delay must be a number of seconds, not {value!r}")
    return float(value)


def _from_turns(record: Record, vocab_size: int, seed: int) -> Iterator[Trajectory]:
    trajectory_id = str(record["id"])
    turns = []
    for index, entry in enumerate(record["turns"]):
        if not isinstance(entry, list) or len(entry) < 2:
            raise ValueError(f"turn {index} must be [append, gen, ...], not {entry!r}")
        # A request must send and get something: zeros (a trace may drop thinking tokens) become one token.
        append = max(1, _count(entry[0], f"append of turn {index}"))
        gen = max(1, _count(entry[1], f"gen of turn {index}"))
        ids = random_ids(stable_seed(seed, trajectory_id, index), append, vocab_size)
        turns.append(Turn(ids, gen, _delay_s(entry[2]) if len(entry) > 2 else 0.0))
    yield _trajectory(trajectory_id, turns)


def _from_messages(record: Record, encode: Encode) -> Iterator[Trajectory]:
    """Each assistant message is one turn's length of generation; what stands between two is the append text."""
    trajectory_id = str(record["id"])
    turns = []
    text = ""
    for message in record["messages"]:
        role, content = message["role"], message["content"]
        if not isinstance(content, str):
            raise ValueError(f"the content of a message must be text, not {content!r}")
        if role != "assistant":
            text += chat.message(role, content)
            continue
        append = np.asarray(encode(text + chat.opening("assistant")), dtype=np.int32)
        turns.append(Turn(append, len(encode(content + chat.END))))
        text = "\n"  # closes the line of the answer, whose end token the model generates
    yield _trajectory(trajectory_id, turns)


def _from_session(record: Record, vocab_size: int) -> Iterator[Trajectory]:
    """The requests of a session, and those of each of its sub-agents, which share the session's blocks."""
    session_id, block_tokens = str(record["id"]), _count(record["block_size"], "block_size")
    if block_tokens == 0:
        raise ValueError("block_size must not be 0")
    salt = stable_seed(session_id)
    own = [request for request in record["requests"] if request["type"] != "subagent"]
    yield from _segments(session_id, own, salt, block_tokens, vocab_size)
    seen: Counter[str] = Counter()
    for request in record["requests"]:
        if request["type"] == "subagent":
            agent = str(request.get("agent_id", "subagent"))
            seen[agent] += 1  # one agent may be called several times
            name = f"{session_id}/{agent}" + (f"_{seen[agent]}" if seen[agent] > 1 else "")
            yield from _segments(name, request["requests"], salt, block_tokens, vocab_size)


def _segments(name: str, requests: list[Record], salt: int, block_tokens: int, vocab_size: int) -> Iterator[Trajectory]:
    """Cut a session where a prompt no longer extends the one before (context compaction, edits): ``name#0``, ...

    A prompt extends another when all its blocks but the last, which may have been partial, are shared.
    """
    turns: list[Turn] = []
    num_segments = 0
    before: list[Run] = []
    before_tokens = 0  # prompt and answer of the request before
    for request in requests:
        runs: list[Run] = [(int(first), int(count)) for first, count in request["hash_runs"]]
        prompt_tokens, gen = _count(request["in"], "in"), max(1, _count(request["out"], "out"))
        extends = shared_blocks(before, runs) >= sum(count for _, count in before) - 1
        if turns and not extends:
            yield _trajectory(f"{name}#{num_segments}", turns)
            num_segments, turns, before_tokens = num_segments + 1, [], 0
        start = before_tokens if turns else 0
        # Thinking tokens are dropped from the recorded context, so a prompt can be shorter than what stood before.
        start = max(0, min(start, prompt_tokens - 1))
        ids = _prompt_ids(expand(runs), prompt_tokens, start, salt, block_tokens, vocab_size)
        turns.append(Turn(ids, gen, _delay_s(request.get("think_time", 0.0))))
        before, before_tokens = runs, prompt_tokens + request["out"]
    if turns:
        yield _trajectory(f"{name}#{num_segments}", turns)


def _from_mooncake(record: Record, name: str, vocab_size: int) -> Iterator[Trajectory]:
    prompt_tokens = max(1, _count(record["input_length"], "input_length"))
    gen = max(1, _count(record["output_length"], "output_length"))
    hashes = np.asarray(record["hash_ids"], dtype=np.uint64)
    ids = _prompt_ids(hashes, prompt_tokens, 0, stable_seed("mooncake"), MOONCAKE_BLOCK_TOKENS, vocab_size)
    yield _trajectory(name, [Turn(ids, gen)])


def _prompt_ids(
    hashes: np.ndarray, prompt_tokens: int, start: int, salt: int, block_tokens: int, vocab_size: int
) -> TokenIds:
    """Tokens [start, prompt_tokens) of a prompt of hashed blocks; a tail that no hash covers is drawn at random."""
    first_block = start // block_tokens
    covered = block_ids(salt, hashes[first_block:], block_tokens, vocab_size)[start - first_block * block_tokens :]
    wanted = max(1, prompt_tokens - start)
    if len(covered) < wanted:
        last_hash = int(hashes[-1]) if len(hashes) else -1
        tail_salt = stable_seed(salt, last_hash, prompt_tokens)
        covered = np.concatenate([covered, random_ids(tail_salt, wanted - len(covered), vocab_size)])
    return covered[:wanted]


def _trajectory(trajectory_id: str, turns: list[Turn]) -> Trajectory:
    if not turns:
        raise ValueError(f"trajectory {trajectory_id} has no turn in which the model answers")
    return Trajectory(trajectory_id, tuple(turns))
