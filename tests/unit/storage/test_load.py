import sys

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.storage.load import open_store


class OwnStore:
    def __init__(self, root, layout):
        self.name = f"own {root}"


@pytest.mark.parametrize("spec", ["local", "memory"])
def test_known_stores(spec, tmp_path, layout):
    assert open_store(spec, str(tmp_path), layout).name


def test_a_store_of_ones_own(tmp_path, layout, monkeypatch):
    monkeypatch.setattr("dualpath_ray.base.plugin.importlib.import_module", lambda name: sys.modules[__name__])
    assert open_store("anything:OwnStore", str(tmp_path), layout).name == f"own {tmp_path}"


@pytest.mark.parametrize("spec", ["", "s4", "no_such_module:Store", "pathlib:NoSuchStore", "math:pi", ":x"])
def test_an_unknown_store_names_the_key(spec, tmp_path, layout):
    with pytest.raises(ConfigError, match=r"storage\.store"):
        open_store(spec, str(tmp_path), layout)
