"""Results and progress in a directory and in an object store: the same files, whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.ops.results_place import ResultsPlace
from tests.unit.storage.conftest import S3_KEYS
from tests.unit.storage.conftest import s3_endpoint as s3_endpoint


@pytest.fixture(params=["directory", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "directory":
        yield str(tmp_path / "out")
        return
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    endpoint = request.getfixturevalue("s3_endpoint")
    options = f"scheme=http&endpoint_override={endpoint}&region=any&allow_bucket_creation=true"
    yield f"s3://results/{secrets.token_hex(6)}/run?{options}"


def test_files_are_saved_found_in_order_and_removed(out: str) -> None:
    with closing(ResultsPlace(out)) as place:
        place.make()
        assert place.load("progress") == {}
        place.remove("progress")
        for name in ("progress/b.txt", "progress/a/2.txt", "progress/a/1.txt"):
            place.save(name, name)
        place.save("progress/b.txt", "again")
        found = place.load("progress")
        assert found == {"progress/a/1.txt": "progress/a/1.txt", "progress/a/2.txt": "progress/a/2.txt"} | {
            "progress/b.txt": "again"
        }
        assert list(found) == sorted(found)
        assert list(place.load("progress/a")) == ["progress/a/1.txt", "progress/a/2.txt"]
        place.remove("progress/b.txt")
        place.remove("progress")
        assert place.load("progress") == {}


def test_what_is_published_is_there_for_who_comes_later(out: str) -> None:
    with closing(ResultsPlace(out)) as place:
        place.make()
        (place.folder / "deep").mkdir()
        (place.folder / "deep" / "summary.json").write_text("{}")
        place.publish()
    with closing(ResultsPlace(out)) as later:
        assert later.load("deep") == {"deep/summary.json": "{}"}
        assert "secret" not in later.shown and "?" not in later.shown
        assert later.where("report.html") == f"{later.shown}/report.html"
    assert not later.remote or not later.folder.exists(), "nothing stays on this machine"


@pytest.mark.parametrize("out", ["s3://", "ftp://host/x", "/dev/null/x"])
def test_a_place_that_is_none_is_one_sentence(out: str) -> None:
    with pytest.raises(ConfigError, match="^--out: .* cannot be"), closing(ResultsPlace(out)) as place:
        place.make()
