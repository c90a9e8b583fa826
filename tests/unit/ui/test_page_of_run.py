"""The live page of a run's own system: served where it is asked for, and never in the run's way."""

from contextlib import contextmanager

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.ui import UiConfig
from dualpath_ray.ui import serve


@pytest.fixture
def served(monkeypatch):
    """(what was asked for, when it ended)"""
    asked, ended = [], []

    @contextmanager
    def page(system, host, port, token, runs):
        if port == 1:
            raise ConfigError("ui.port: 127.0.0.1:1 cannot be listened on")
        asked.append((system, host, port, token))
        yield f"http://{host}:{port}/"
        ended.append(system)

    monkeypatch.setattr(serve, "page_within", page)
    return asked, ended


@pytest.mark.parametrize(
    ("config", "port", "asked", "said"),
    [
        (UiConfig(), None, [], []),
        (UiConfig(port=7), None, [("s", "127.0.0.1", 7, "t")], ["live page: http://127.0.0.1:7/"]),
        (UiConfig(port=7), 8, [("s", "127.0.0.1", 8, "t")], ["live page: http://127.0.0.1:8/"]),
        (UiConfig(), 1, [], ["no live page: ui.port: 127.0.0.1:1 cannot be listened on"]),
    ],
)
def test_the_page_is_there_while_the_run_is(served, config, port, asked, said):
    lines = []
    with serve.page_of_run("s", config, port, "t", lines.append):
        assert served[0] == asked and served[1] == []
        assert lines == said
    assert served[1] == [each[0] for each in asked]


def test_an_error_of_the_run_stays_its_own(served):
    with pytest.raises(KeyError, match="of the run"), serve.page_of_run("s", UiConfig(port=7), None, None, print):
        raise KeyError("of the run")
