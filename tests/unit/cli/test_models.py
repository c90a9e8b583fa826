"""``dualpath models``: what planning knows of a model, by name, by the paper's name, from a file, and of one that runs."""

from dataclasses import asdict

import pytest
import yaml

from dualpath_ray.cli.main import run
from dualpath_ray.models.known import KNOWN, known_model

ONLY_PLANNED = [name for name in KNOWN if name != "smollm2-135m"]


def shown(capsys, *command: str) -> dict[str, str]:
    assert run(["models", *command]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:18].strip(): line[18:] for line in lines}


@pytest.mark.parametrize("name", ONLY_PLANNED)
def test_every_known_shape_shows_its_kv_and_table_1(capsys, name):
    rows = shown(capsys, "show", name)
    assert all(f" at {context}K" in rows["GB per PFLOP"] for context in (16, 32, 48, 64))
    assert "with 429 tokens appended" in rows["GB per PFLOP"] and rows["KV of a token"].endswith(" bytes)")
    assert ("experts" in rows) == bool(known_model(name).routed_experts)


def test_the_numbers_are_the_shapes_own(capsys):
    rows = shown(capsys, "show", "ds-660b")
    assert rows == shown(capsys, "show", "deepseek-v3.2")
    assert rows["KV of a token"] == "41.9 KiB (42,944 bytes)" and rows["layers"].startswith("61, 61 of them")
    assert rows["GB per PFLOP"].startswith("13.0 at 16K, 23.0 at 32K, 31.0 at 48K, 37.4 at 64K of context")
    assert rows["experts"] == "8 of 256 a token, 44,040,192 parameters each, in 58 layers"


def test_a_shape_from_a_file(capsys, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(asdict(known_model("ds-27b"))))
    assert shown(capsys, "show", str(path)) == shown(capsys, "show", "ds-27b")
    path.write_text("colour: red\n")
    assert run(["models", "show", str(path)]) == 2
    assert f"{path}: " in capsys.readouterr().err


def test_a_model_that_runs_here_shows_the_same_and_more(capsys):
    rows = shown(capsys, "show", "toy-llama", "--dtype", "bfloat16")
    assert rows["KV of a token"] == "512 B (512 bytes) in bfloat16" and " at 64K of context" in rows["GB per PFLOP"]
    assert {"where", "architecture", "attention heads", "weights", "vocabulary", "fingerprint"} <= set(rows)


def test_the_list_names_the_papers_own_names(capsys):
    rows = shown(capsys, "list")
    listed = " ".join(rows.values())
    assert "ds-27b" in rows and "also ds-660b" in listed
