"""docs/configuration.md is made from the models, and names every key."""

from pathlib import Path

from dualpath_ray.config.load import effective, parse_cluster
from dualpath_ray.config.reference import reference

ROOT = Path(__file__).parents[3]


def test_the_committed_page_is_the_one_that_is_made():
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), "run: dualpath config reference"


def test_every_key_has_a_row_with_a_meaning():
    config = parse_cluster({"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}, "test")
    rows = {line.split("`")[1]: line for line in reference().splitlines() if line.startswith("| `")}
    assert set(rows) == {key for key, _, _ in effective(config, {}, "test")}
    assert all(len(line.split(" | ")[-1]) > 5 for line in rows.values())
