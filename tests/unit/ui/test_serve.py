"""Who serves the page, as far as that is known without Ray."""

from pathlib import Path

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.config.ui import UiConfig
from dualpath_ray.ui.serve import PageOptions, start_configured

BASE = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}


def test_no_port_is_no_page():
    said = []
    start_configured("a-system", UiConfig(), None, None, said.append)  # without Ray it could not start one
    assert said == []


@pytest.mark.parametrize("port", [-1, 65_536, "http"])
def test_a_port_is_checked_where_it_enters(port):
    with pytest.raises(ConfigError, match="ui.port"):
        parse_cluster({**BASE, "ui": {"port": port}}, "a.yaml")


@pytest.mark.parametrize("named", [{"host": "0.0.0.0"}, {"port": 0}, {"runs": Path("runs")}])
def test_what_is_named_makes_a_page_of_ones_own(named):
    assert PageOptions(**named).own
    assert not PageOptions(token="secret", open=True).own
