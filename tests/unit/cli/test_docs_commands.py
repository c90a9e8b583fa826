"""Every command in the documents is one that there is: names, options, choices and arity, also where it is not carried out."""

import re
import shlex
from collections import Counter
from contextlib import suppress

import click
import pytest

from dualpath_ray.cli.main import cli
from tests.docs.blocks import DOCUMENTS, LEFT_OUT, TRANSLATIONS, blocks_of, command_lines, dualpath_arguments
from tests.ray.nodes import ROOT

# How many blocks of a document are not carried out, and why. A new one is a decision, not an oversight.
NOT_CARRIED_OUT = {
    ("README.md", "takes minutes"): 6,
    ("docs/kubernetes.md", "needs Docker"): 1,
    ("docs/kubernetes.md", "needs Kubernetes"): 10,
    ("docs/quickstart.md", "takes minutes"): 1,
}


def check(arguments: list[str]) -> None:
    """Raises: click.UsageError when this is no command line of ours. Nothing is carried out."""
    command: click.Command = cli
    parent, name = None, "dualpath"
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        parent = click.Context(command, parent=parent, info_name=name)
        name = rest.pop(0)
        found = command.get_command(parent, name)
        if found is None:
            raise click.UsageError(f"there is no command {name}")
        command = found
    with suppress(click.exceptions.Exit):  # of --help and --version
        command.make_context(name, rest, parent=parent)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_understood(document):
    for block in blocks_of(document):
        for words in command_lines(block.text):
            arguments = dualpath_arguments(words)
            if arguments is not None:
                try:
                    check(arguments)
                except click.UsageError as error:
                    pytest.fail(f"{block.where}: {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("document", [*DOCUMENTS, "ARCHITECTURE.md"])
def test_commands_in_sentences_are_understood(document):
    """All that is quoted as ``dualpath ...``; of a synopsis with its brackets only the name of the command."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    for quoted in re.findall(r"`(dualpath [^`]+)`", text):
        ((_, *words),) = command_lines(quoted)
        words = ["1" if word.isupper() else word for word in words]  # N, FILE, REQUEST: a number is all of these
        if "[" in quoted:
            words = [words[0], "--help"]
        try:
            check(words)
        except click.MissingParameter:
            pass  # the sentence is about a command, not a whole one
        except click.UsageError as error:
            pytest.fail(f"{document}: {quoted}: {error.format_message()}")


def test_what_is_not_carried_out_is_known():
    blocks = [block for document in DOCUMENTS for block in blocks_of(document)]
    assert Counter((block.document, block.mark) for block in blocks if block.mark in LEFT_OUT) == NOT_CARRIED_OUT


@pytest.mark.parametrize("document", TRANSLATIONS)
def test_a_translation_has_commands_of_the_original(document):
    def commands(of: str) -> list[list[str]]:
        return [words for block in blocks_of(of) for words in command_lines(block.text)]

    there = commands(TRANSLATIONS[document])
    assert [words for words in commands(document) if words not in there] == []


@pytest.mark.parametrize(
    "words",
    [["rollout"], ["no-such"], ["up", "my.yaml", "--no-such"], ["set"], ["bench", "no-such"], ["drain", "a", "b"]],
)
def test_what_is_no_command_is_found(words):
    with pytest.raises(click.UsageError):
        check(words)


def test_words_of_commands():
    text = (
        "A=b dualpath plan x.yaml > y  # that's --all\n"
        "cat > f <<'E'\ndualpath nothing\nE\n"
        "ray job submit -- \\\n  python jobs/rollout.py c\n"
    )
    assert list(command_lines(text)) == [
        ["A=b", "dualpath", "plan", "x.yaml"],
        ["cat"],
        ["ray", "job", "submit", "--", "python", "jobs/rollout.py", "c"],
    ]
    assert [dualpath_arguments(words) for words in command_lines(text)] == [
        ["plan", "x.yaml"],
        None,
        ["rollout", "--address", "auto", "c"],
    ]
