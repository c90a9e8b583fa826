"""The shell blocks of the documents: where they stand, what is left out and why, the commands in them, what they print."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.ray.nodes import ROOT

TRANSLATIONS = {"README.zh-CN.md": "README.md"}  # whose commands are those of the original, which are carried out
DOCUMENTS = ("README.md", "README.zh-CN.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md"))))

# First lines that keep a block from being carried out. It needs what this machine lacks, or has run in other tests.
LEFT_OUT = ("needs Kubernetes", "needs Docker", "needs RDMA", "needs 3FS", "needs GPUs", "takes minutes")
PROGRAMS = {"needs kubectl": "kubectl"}  # carried out where the program is
_MARK = re.compile(r"# ((?:needs|takes) .+)")
LANGUAGES = {"bash", "console", "yaml", "text", "python", ""}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_OUTPUT = re.compile(r"\s*^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)  # directly behind the commands that print it
_FILE = re.compile(r"# ([\w.-]+\.yaml)")


@dataclass(frozen=True, slots=True)
class Block:
    document: str
    line: int  # of the first line inside the fence, from 1
    text: str  # commands alone, every line where it was
    mark: str | None  # why it is left out, or the program that it needs
    prints: str = ""  # the lines that the document shows of it; ``...`` stands for what it leaves out

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def left_out(self) -> bool:
        return self.mark in LEFT_OUT


def _commands_of_console(text: str) -> str:
    """What stands behind a prompt; the rest is output."""
    lines = text.splitlines()
    return "\n".join(line[2:] if line.startswith("$ ") else "" for line in lines)


def _as_file(text: str) -> str | None:
    """A YAML block whose first line names a file, as the command that writes it. None when it names none."""
    first, _, _ = text.partition("\n")
    named = _FILE.fullmatch(first)
    return f"cat > {named[1]} <<'END_OF_FILE'\n{text}END_OF_FILE" if named else None


def blocks_of(document: str) -> list[Block]:
    """In order. Raises: AssertionError for a mark that nobody knows."""
    text = (ROOT / document).read_text()
    found = []
    for fence in _FENCE.finditer(text):
        language, inside = fence.groups()
        assert language in LANGUAGES, f"{document}: what is a block of {language}?"
        line = text.count("\n", 0, fence.start()) + 2
        if language == "yaml":
            written = _as_file(inside)
            if written is not None:
                found.append(Block(document, line, written, None))
        elif language in ("bash", "console"):
            marked = _MARK.fullmatch(inside.partition("\n")[0])
            mark = marked[1] if marked else None
            assert mark is None or mark in LEFT_OUT or mark in PROGRAMS, f"{document}:{line}: what is '# {mark}'?"
            if language == "console":
                shown = "\n".join(each for each in inside.splitlines() if not each.startswith("$ "))
                found.append(Block(document, line, _commands_of_console(inside), mark, shown))
            else:
                output = _OUTPUT.match(text, fence.end())
                found.append(Block(document, line, inside, mark, output[1] if output else ""))
    return found


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell text, without comments, redirections and the contents of here-documents."""
    text = re.sub(r"<<'(\w+)'\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(^|\s)#.*", r"\1", text, flags=re.MULTILINE)
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";|&<>\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    words: list[str] = []
    redirected = False
    for word in [*lexer, "\n"]:
        if set(word) <= set(";|&\n"):
            if words:
                yield words
            words, redirected = [], False
        elif set(word) <= set("<>"):
            redirected = True
        elif not redirected:
            words.append(word)


def dualpath_arguments(words: Sequence[str]) -> list[str] | None:
    """What a command hands to ``dualpath``, itself or by a job or a container. None when it calls something else."""
    words = list(words)
    while words and re.match(r"\w+=", words[0]):
        del words[0]
    starts = [0, *(place + 1 for place, word in enumerate(words) if word == "--")]
    for start in starts:
        match words[start:]:
            case ["dualpath", *arguments]:
                return arguments
            case ["python", job, *arguments] if job.endswith("jobs/rollout.py"):
                return ["rollout", "--address", "auto", *arguments]
    return None
