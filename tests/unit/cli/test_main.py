"""The command line: help, exit codes, and what each command hands on. Nothing is started."""

import subprocess
import sys
import types
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from dualpath_ray.base.errors import ConfigError, RequestRefusedError, StorageError, SystemDiedError
from dualpath_ray.cli.errors import exit_code_of
from dualpath_ray.cli.main import cli, run
from dualpath_ray.ops.options import RolloutOptions

CONFIGS = Path(__file__).parents[3] / "cluster_configs"


@pytest.fixture
def module(monkeypatch):
    """Puts a stand-in in the place of a module that would start something; returns the calls it gets."""

    def put(name: str, function: str, result=0) -> list:
        calls: list = []

        def stand_in(*args, **kwargs):
            calls.append((args, kwargs))
            if isinstance(result, BaseException):
                raise result
            return result

        fake = types.ModuleType(name)
        setattr(fake, function, stand_in)
        monkeypatch.setitem(sys.modules, name, fake)
        return calls

    return put


def test_help_is_grouped_in_order():
    text = CliRunner().invoke(cli, ["--help"]).output
    places = [text.index(f"\n{section}:\n") for section in ("try", "run", "plan", "measure")]
    assert places == sorted(places)
    assert places[0] < text.index("\n  demo ") < text.index("\n  models ") < places[1]
    assert places[1] < text.index("\n  rollout ") < places[2]
    assert places[2] < text.index("\n  config ") < text.index("\n  profile ") < places[3]
    assert all(f"\n  {name} " in text[places[3] :] for name in ("bench", "explain"))


@pytest.mark.parametrize(
    "command",
    ["demo", "doctor", "models", "models pull", "models show", "models list", "rollout", "config", "config show"]
    + ["bench", "bench pool", "bench overhead", "bench prediction", "bench scheduler", "bench simulator"]
    + ["bench isolation", "bench lanes"]
    + ["profile", "fabric", "explain", "plan", "simulate", "calibrate", "reproduce"],
)
def test_every_command_has_help(command):
    result = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert result.exit_code == 0 and "Usage: " in result.output


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from dualpath_ray.cli.main import run; run(['rollout', '--help']); "
        "sys.exit(str([m for m in ('ray', 'torch', 'transformers', 'pydantic', 'numpy') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "[]")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c.yaml: node.gpus:\nmust be positive"), 2),
        (RequestRefusedError("token_ids: the prompt is empty"), 2),
        (SystemDiedError("engine p0/e0 is gone"), 1),
        (StorageError("no answer"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("no such option"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_sentence_and_an_exit_code(error, code, capsys):
    def call():
        raise error

    assert exit_code_of(call) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert " ".join(str(error).split()) in said.err


def test_a_bug_is_not_hidden():
    def call():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code_of(call)


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_may_choose_its_exit_code(result, code):
    assert exit_code_of(lambda: result) == code


@pytest.mark.parametrize("arguments", [["no-such-command"], ["rollout"], ["rollout", "c.yaml", "--max-turns", "0"]])
def test_a_wrong_command_line_is_bad_input(arguments, capsys):
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_rollout_hands_its_options_on(module):
    calls = module("dualpath_ray.ops.rollout", "run_rollout", 3)
    flags = "--trace t.jsonl --num-trajectories 4 --max-turns 3 --token-scale 0.5 --max-gen 9 --gen-tokens 2 --total-tokens 77"
    flags += " --seed 5 --tool-delays --no-layerwise --no-quota --compare prefill_only,scheduled --address auto"
    flags += " --out here --keep-store --no-verify-tokens"
    assert run(["rollout", "c.yaml", *flags.split()]) == 3
    ((path, options, _), _) = calls[0]
    assert path == Path("c.yaml")
    assert options == RolloutOptions(
        trace="t.jsonl",
        num_trajectories=4,
        max_turns=3,
        token_scale=0.5,
        max_gen=9,
        gen_tokens=2,
        total_tokens=77,
        seed=5,
        tool_delays=True,
        read_path=None,
        layerwise=False,
        quota=False,
        compare=("prefill_only", "scheduled"),
        address="auto",
        out="here",
        keep_store=True,
        verify_tokens=False,
    )


def test_rollout_has_the_defaults_of_its_options(module):
    calls = module("dualpath_ray.ops.rollout", "run_rollout")
    assert run(["rollout", "c.yaml"]) == 0
    assert calls[0][0][1] == RolloutOptions()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--compare scheduled --read-path prefill_only", "--read-path and --compare contradict"),
        ("--gen-tokens 5 --max-gen 4", "--gen-tokens 5 is above --max-gen 4"),
    ],
)
def test_rollout_refuses_contradictions(flags, says, module, capsys):
    calls = module("dualpath_ray.ops.rollout", "run_rollout")
    assert run(["rollout", "c.yaml", *flags.split()]) == 2
    assert says in capsys.readouterr().err and not calls


def test_ctrl_c_in_a_run(module, capsys):
    module("dualpath_ray.ops.demo", "run_demo", KeyboardInterrupt())
    assert run(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_bench_pool_checks_its_rates(module, capsys):
    calls = module("dualpath_ray.bench.pool", "run", {"rows": []})
    assert run(["bench", "pool", "--snic-rates", "6 MB/s, 2 GB/s", "--out", "x", "--json"]) == 0
    assert calls[0][1]["snic_rates"] == ("6 MB/s", "2 GB/s") and calls[0][1]["out"] == Path("x")
    assert '"rows": []' in capsys.readouterr().out
    assert run(["bench", "pool", "--snic-rates", "fast"]) == 2
    assert "'fast' is no rate" in capsys.readouterr().err


def test_bench_lanes_checks_its_rates(module, capsys):
    calls = module("dualpath_ray.bench.lanes", "run", {"rows": []})
    assert (
        run(["bench", "lanes", "--rates", "1 GB/s", "--seconds", "0.5", "--rounds", "2", "--out", "x", "--json"]) == 0
    )
    assert calls[0][0][:4] == (("1 GB/s",), 0.5, 2, Path("x"))
    assert '"rows": []' in capsys.readouterr().out
    assert run(["bench", "lanes", "--rates", "fast"]) == 2
    assert "'fast' is no rate" in capsys.readouterr().err


def test_profile_hands_its_file_on(module):
    calls = module("dualpath_ray.ops.profile", "profile_config", {})
    assert run(["profile", "c.yaml"]) == 0
    assert calls[0][0][0] == Path("c.yaml")


def test_config_show_says_where_values_came_from(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    given = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "node": {"snic_bps": "6 MB/s"}}
    path.write_text(yaml.safe_dump({**given, "engine": {"max_context_tokens": 256, "cpus": 1}}))
    assert run(["config", "show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert "6.0 MB/s" in rows["node.snic_bps"] and rows["node.snic_bps"].endswith(str(path))
    assert "unset" in rows["node.cnic_bps"] and rows["node.cnic_bps"].endswith("default")
    assert "true" in rows["scheduler.layerwise"] and "8.0 GiB" in rows["storage.capacity_bytes"]
    assert any(line.startswith("longest context") and "256 tokens" in line for line in lines)
    sources = {line.index(str(path)) for line in lines if str(path) in line}
    assert len(sources) == 1  # aligned


def test_config_show_without_the_model_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DUALPATH_HOME", str(tmp_path))
    assert run(["config", "show", str(CONFIGS / "laptop_1p1d.yaml")]) == 0
    assert "run `dualpath models pull smollm2-135m`" in capsys.readouterr().out


def test_config_show_of_a_broken_file(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("prefill_nodes: 1\nmodel: toy-llama\ncolour: red\n")
    assert run(["config", "show", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert f"{path}: decode_nodes: this key is required; colour: there is no such key" in said.err


def test_models_are_listed_and_shown(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DUALPATH_HOME", str(tmp_path))
    assert run(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert "`dualpath models pull smollm2-135m` fetches it" in listed and "deepseek-v3.2" in listed
    assert run(["models", "show", "toy-llama"]) == 0
    assert "KV of a token" in capsys.readouterr().out
    assert run(["models", "show", "deepseek-v3"]) == 0
    assert "serves planning" in capsys.readouterr().out
    assert run(["models", "show", "smollm2-135m"]) == 2
    assert "run `dualpath models pull smollm2-135m`" in capsys.readouterr().err
    assert run(["models", "pull", "gpt-17"]) == 2
    assert "model gpt-17 cannot be pulled; there is smollm2-135m" in capsys.readouterr().err
