"""``dualpath fabric`` on the command line: what it writes and prints, and its exit codes."""

import json

import pytest

from dualpath_ray.cli.main import run


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "system.yaml"
    file.write_text("{prefill_nodes: 1, decode_nodes: 1, model: toy-llama}")
    return file


@pytest.mark.parametrize("kind", ["infiniband", "roce"])
def test_files_are_named_compared_and_found_to_differ(tmp_path, config, capsys, kind):
    out = tmp_path / "out"
    assert run(["fabric", str(config), "--out", str(out), "--kind", kind]) == 0
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(map(str, out.iterdir()))
    assert run(["fabric", str(config), str(out), "--verify", "--kind", kind]) == 0
    assert capsys.readouterr().out.endswith(f"None of {len(printed)} items compared differs.\n")
    (out / "env-kv-cache.sh").unlink()
    assert run(["fabric", "--verify", "--json", str(config), str(out), "--kind", kind]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found if each["verdict"] == "differs"] == ["env-kv-cache.sh"]


def test_the_environment_of_this_process_is_compared(config, capsys, monkeypatch):
    monkeypatch.setenv("UCX_IB_SL", "0")
    assert run(["fabric", str(config), "--verify"]) == 1
    assert "UCX_IB_SL" in capsys.readouterr().out
    monkeypatch.setenv("UCX_IB_SL", "2")
    assert run(["fabric", str(config), "--verify", "--json"]) in (0, 1)  # as the devices of this machine are
    (found,) = (each for each in json.loads(capsys.readouterr().out) if each["name"] == "UCX_IB_SL")
    assert found["verdict"] == "same"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "use either --out DIR, to write files, or --verify, to compare"),
        (["--out", "x", "--verify"], "use either --out DIR"),
        (["x", "--out", "y"], "x: files that were written are only compared; add --verify"),
        (["x", "--verify"], "x: there is no such file or directory"),
        (["--verify", "--kind", "ethernet"], "'ethernet' is not one of 'infiniband', 'roce'"),
    ],
)
def test_bad_input_is_one_sentence(config, capsys, arguments, says):
    assert run(["fabric", str(config), *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_tables_that_starve_a_class_are_refused(tmp_path, capsys):
    file = tmp_path / "starved.yaml"
    starved = "{prefill_nodes: 1, decode_nodes: 1, model: toy-llama, fabric: {cnic: {qos_vlarb_low: '0:192'}}}"
    file.write_text(starved)
    assert run(["fabric", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "fabric.cnic: qos_vlarb_low: lane 2 of service level 2 has no weight" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_config_show_names_classes_as_the_file_does(config, capsys):
    assert run(["config", "show", str(config)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "model_execution: 46, kv_urgent: 34, kv_cache: 26" in rows["fabric.roce.dscp"]
