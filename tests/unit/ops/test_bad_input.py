"""What a user can get wrong: one sentence that names file and key, exit code 2, and nothing has been started."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import save_file

from dualpath_ray.cli.main import run
from dualpath_ray.engine.device import num_cuda_devices
from dualpath_ray.ops import rollout

SMALLEST: dict[str, Any] = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "eos_token_id": 1,
}
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs ``dualpath rollout`` on a configuration and returns what it says; it must be bad input."""

    def started(*args: object, **kwargs: object) -> int:
        raise AssertionError("something was started")

    monkeypatch.setattr(rollout, "execute", started)
    path = tmp_path / "my.yaml"

    def say(more: dict[str, Any], *flags: str) -> str:
        path.write_text(yaml.safe_dump({**SMALLEST, **more}))
        out = [] if "--out" in flags else ["--out", str(tmp_path / "out")]
        assert run(["rollout", str(path), *out, *flags]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and said.err.startswith("dualpath: "), said.err
        return said.err.removeprefix("dualpath: ").replace(str(path), "my.yaml").strip()

    return say


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"node": {"pe_buffer_bytes": "1 KiB"}}, "my.yaml: node.pe_buffer_bytes: 1.0 KiB is smaller than one block"),
        ({"node": {"de_buffer_bytes": "1 KiB"}}, "my.yaml: node.de_buffer_bytes: 1.0 KiB is smaller than one block"),
        ({"node": {"de_buffer_bytes": "512 KiB"}}, "my.yaml: node.de_buffer_bytes: the buffer holds"),
        ({"engine": {"hbm_kv_bytes": "1 KiB"}}, "my.yaml: engine.hbm_kv_bytes: 1.0 KiB hold"),
        ({"engine": {"hbm_kv_bytes": "64 KiB"}}, "my.yaml: engine.hbm_kv_bytes: a decode engine holds"),
        ({"engine": {"max_context_tokens": 9999}}, "my.yaml: engine.max_context_tokens: 9999 is beyond the 4096"),
        ({"engine": {"cpus": 4096}}, "my.yaml: engine.cpus: 2 engines of 4096 CPUs are more than this machine's"),
        ({"storage": {"capacity_bytes": "1 KiB"}}, "my.yaml: storage.capacity_bytes: 1.0 KiB on 1 storage node(s)"),
        ({"storage": {"path": "/proc/nowhere"}}, "my.yaml: storage.path: /proc/nowhere cannot be written"),
        ({"storage": {"store": "no.such:thing"}}, "my.yaml: storage.store: 'no.such:thing' cannot be imported"),
        ({"node": {"snic": "eth99"}}, "my.yaml: node.snic: this machine has no network device eth99; it has "),
        ({"node": {"cnic": "eth99"}}, "my.yaml: node.cnic: this machine has no network device eth99; it has "),
        ({"transport": "pigeons"}, "my.yaml: transport: 'pigeons' is no transport"),
        ({"scheduler": {"read_path": "fastest"}}, "my.yaml: scheduler.read_path: 'fastest' is no policy"),
        ({"profile": {"speed": 3.0}}, "my.yaml: profile: not a result of `dualpath profile`"),
        ({"model": "toy-gpt"}, "my.yaml: model: there is no 'toy-gpt'; models with random weights are toy-llama"),
        pytest.param(
            {"engine": {"device": "cuda"}},
            "my.yaml: engine.device: cuda, but torch finds no CUDA device here",
            marks=pytest.mark.skipif(num_cuda_devices() > 0, reason="there is a CUDA device"),
        ),
        ({"model": "/no/such/model"}, "my.yaml: model /no/such/model: no folder with a config.json"),
        ({"colour": "red"}, "my.yaml: colour: there is no such key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_configuration(refused: Refused, more: dict[str, Any], says: str) -> None:
    assert refused(more).startswith(says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--trace", "nowhere.jsonl"), "trace nowhere.jsonl: no such file; give code-reading"),
        (("--total-tokens", "9000"), "trace code-reading: trajectory"),
        (("--trace", "table2-32k", "--token-scale", "9"), "trace table2-32k: the first turn of trajectory"),
        (("--compare", "fastest"), "--compare: there is no 'fastest'"),
        (("--out", "/proc/nowhere"), "--out: /proc/nowhere cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_flag(refused: Refused, flags: tuple[str, ...], says: str) -> None:
    assert refused({}, *flags).startswith(says)


def model_folder(path: Path, config: dict[str, Any] | str = LLAMA, weights: bool = True) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        save_file({"w": np.zeros((8, 8), np.float32)}, path / "model.safetensors")
    return path


def test_a_model_without_weights(refused: Refused, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", weights=False)
    assert refused({"model": str(folder)}).startswith(f"my.yaml: model: {folder} holds no *.safetensors weights")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[:-4], "is corrupt (cut short)"),
        (lambda data: b"x" * 64, "is corrupt (no safetensors header)"),
        (lambda data: (2).to_bytes(8, "little") + b"[]", "is corrupt (no safetensors header)"),
        (lambda data: b"", "is corrupt (no safetensors header)"),
    ],
)
def test_a_corrupt_model(refused: Refused, tmp_path: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    folder = model_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    assert refused({"model": str(folder)}).startswith(f"my.yaml: model: {file} {says}")


def test_a_shard_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    names = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert refused({"model": str(folder)}).startswith(f"my.yaml: model: {folder / names['b']} is missing")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "is no model that can be read here"),
        ({**LLAMA, "model_type": "mistral", "sliding_window": 64}, "(MistralConfig) has sliding-window"),
        ({"model_type": "gemma3", "text_config": {"sliding_window": 64}}, "(Gemma3TextConfig) has sliding-window"),
        ({"model_type": "t5"}, "(T5Config) is no plain language model"),
    ],
    ids=["broken", "mistral", "gemma3", "t5"],
)
def test_a_model_that_is_not_served(refused: Refused, tmp_path: Path, config: Any, says: str) -> None:
    folder = model_folder(tmp_path / "m", config)
    said = refused({"model": str(folder)})
    assert said.startswith(f"my.yaml: model: {folder} ") and says in said


def test_a_model_that_is_too_large(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "m")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    said = refused({"model": str(folder)})
    assert said.startswith(f"my.yaml: model: {folder} needs 256 B for its weights") and "has 100 B free" in said
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=300))
    said = refused({"model": str(folder)}, "--trace", "table2-32k", "--token-scale", "0.01")
    assert "takes 256 B in each of 2 engines, 512 B in all" in said


def test_a_model_without_a_tokenizer(refused: Refused, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    assert refused({"model": str(folder)}).startswith(f"my.yaml: model: {folder} has no tokenizer that can be read")


def test_shared_memory_that_is_too_small(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's default of 64 MiB."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=16384, f_frsize=4096))
    said = refused({"model": "toy-llama-32l", "engine": {"max_context_tokens": 4096}})
    assert said.startswith("my.yaml: node.pe_buffer_bytes and node.de_buffer_bytes: the buffers of 2 nodes")
    assert "which has 64.0 MiB free" in said and "--shm-size" in said


def test_a_trace_with_one_id_twice(refused: Refused, tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"id": "a", "turns": [[9, 2]]}\n' * 2)
    said = refused({}, "--trace", str(trace))
    assert said == f"trace {trace}: two trajectories have the id a; give each its own"
