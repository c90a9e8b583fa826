"""Where files go, and comparing them later."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.ops.fabric.files import fabric_files, write_files
from dualpath_ray.ops.fabric.finding import Verdict, differs
from dualpath_ray.ops.fabric.written import compare_written
from tests.unit.ops.fabric.cases import HOST, cluster

FILES = fabric_files(cluster("infiniband"), HOST)
KINDS = ("infiniband", "roce")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_as_configured_and_may_be_written_again(tmp_path, kind):
    files = fabric_files(cluster(kind), HOST)
    write_files(tmp_path / "new", files)
    write_files(tmp_path / "new", files)
    found = compare_written(tmp_path / "new", files)
    assert [each.name for each in found] == [file.name for file in files] and not differs(found)


def test_a_directory_with_other_files_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"--out: .* has other files in it \(notes.txt\); name a new directory"):
        write_files(tmp_path, FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_of_the_same_name_that_somebody_else_wrote_is_not_overwritten(tmp_path):
    (tmp_path / "partitions.conf").write_text("Default=0x7fff : ALL=full ;\n")
    with pytest.raises(ConfigError, match="partitions.conf"):
        write_files(tmp_path, FILES)
    assert (tmp_path / "partitions.conf").read_text().startswith("Default")


def test_files_of_the_other_kind_are_in_the_way(tmp_path):
    write_files(tmp_path, FILES)
    with pytest.raises(ConfigError, match="lanes.txt, opensm.qos.conf"):
        write_files(tmp_path, fabric_files(cluster("roce"), HOST))
    with pytest.raises(ConfigError, match=r"another kind of network than is configured; give --kind"):
        compare_written(tmp_path, fabric_files(cluster("roce"), HOST))


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--out: .* cannot be written"):
        write_files(tmp_path / "file", FILES)


def test_a_changed_line_is_named_and_a_changed_comment_is_not(tmp_path):
    write_files(tmp_path, FILES)
    conf = tmp_path / "opensm.qos.conf"
    conf.write_text(conf.read_text().replace("qos_high_limit 240", "qos_high_limit  255") + "# a remark\n\n")
    (tmp_path / "lanes.txt").unlink()
    found = {each.name: each for each in compare_written(tmp_path, FILES) if each.verdict is Verdict.DIFFERS}
    assert found["opensm.qos.conf"].says == "it lacks 'qos_high_limit 240', it has 'qos_high_limit 255'"
    assert found["lanes.txt"].says == "it is not there" and len(found) == 2
    assert [each.name for each in compare_written(conf, FILES)] == ["opensm.qos.conf"]


def test_a_file_of_another_vendor_is_refused(tmp_path):
    write_files(tmp_path, FILES)
    (tmp_path / "gv.cfg").write_bytes(b"\xff\x00[QoS]\n")
    for path in (tmp_path, tmp_path / "gv.cfg"):
        with pytest.raises(ConfigError, match=r"gv.cfg: `dualpath fabric` did not write it, so it cannot be compared"):
            compare_written(path, FILES)


def test_nothing_to_compare_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="it is empty"):
        compare_written(tmp_path, FILES)
    with pytest.raises(ConfigError, match="no such file or directory"):
        compare_written(tmp_path / "none", FILES)
