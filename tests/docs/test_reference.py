"""The documentation says what the code does."""

import functools
import re
from pathlib import Path

import pytest
import typer

from docs import generate
from gateways.cli.program import make_app

ROOT = Path(generate.__file__).parents[1]
made = functools.cache(generate.page)
"""Whole, and of the same code all the time: half a second each time it is made."""
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if "_build" not in page.parts)


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    """`make reference` renews it."""
    assert (generate.FOLDER / name).read_text() == made(name)


def test_every_command_is_in_the_reference() -> None:
    """A command of the program has a heading of its own."""
    page = made("cli.md")
    top = typer.main.get_command(make_app())
    for name in top.commands:  # type: ignore[attr-defined]
        assert f"## `fleetlog {name}" in page


def _lines(page: Path) -> list[list[str]]:
    """What a page tells its reader to type: the words of each `fleetlog` line, in code or in a block."""
    text = page.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    typed = [line.strip().removeprefix(".venv/bin/").removeprefix("/opt/fleetlog/bin/")
             for block in blocks for line in block.splitlines()]  # fmt: skip
    typed += re.findall(r"`(fleetlog [^`]+)`", text)
    return [line.split("#")[0].split() for line in typed if line.startswith("fleetlog ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_to_type_exists(page: Path) -> None:
    """Every command and every option that a page names is one of the program's."""
    reference = made("cli.md")
    sections = dict(re.findall(r"^###? `fleetlog ([^`]*)`\n(.*?)(?=^##|\Z)", reference, re.MULTILINE | re.DOTALL))
    known = {}
    for heading, body in sections.items():
        words = [word for word in heading.split() if word.islower() and word.isascii() and "[" not in word]
        known[" ".join(words)] = body
    for words in _lines(page):
        typed = [word for word in words[1:] if not word.startswith("-")]
        name = next((" ".join(typed[:n]) for n in (2, 1) if " ".join(typed[:n]) in known), None)
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        if name is None:
            assert options
            assert options <= {"--version", "--install-completion", "--help"}, words
            continue
        listing = known.get(f"{name} list", "")  # a noun alone lists
        is_group = any(other.startswith(f"{name} ") for other in known)
        assert not is_group or typed == [name], f"{' '.join(words)}: {name} has no {typed[-1]}"
        for option in options - {"--help"}:
            assert f"`{option}`" in known[name] + listing, f"{' '.join(words)}: {name} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_named_alone_exist(page: Path) -> None:
    """An option that prose names without its command is an option of some command."""
    known = set(re.findall(r"`(--[a-z-]+)`", made("cli.md"))) | {"--help"}
    named = {word for code in re.findall(r"`(--[^`]+)`", page.read_text()) for word in re.findall(r"--[a-z-]+", code)}
    assert named <= known, named - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every file that a page links to is there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_decisions_that_code_refers_to_exist() -> None:
    """A comment that names a decision record leads to it."""
    for package in generate.PACKAGES:
        for file in Path(str(package.__file__)).parent.rglob("*"):
            if file.suffix in (".py", ".sql"):
                for name in re.findall(r"docs/decisions/[\w-]+\.md", file.read_text()):
                    assert (ROOT / name).is_file(), f"{file}: {name}"


def test_the_errors_do_not_depend_on_what_was_imported_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that have one code each is told of, in whatever order they came to be."""
    page = generate.page("errors.md")
    found = list(generate._subclasses(Exception))
    monkeypatch.setattr(generate, "_subclasses", lambda _: iter(found[::-1]))
    assert generate.page("errors.md") == page
