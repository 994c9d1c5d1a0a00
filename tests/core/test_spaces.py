"""Spaces built from this tree: what is in them, what they install, and that they are published in one commit."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import typer
from huggingface_hub import constants
from packaging.requirements import Requirement
from typer.testing import CliRunner, Result

from core.errors import InputError, QuartetError
from core.registry import ROOT, catalogue, find
from core.spaces import build
from core.spaces.build import MAX_BYTES, MAX_FILE_BYTES, Space, build_space, make_space, shipped_files
from core.spaces.command import push_space_command, space_command
from core.spaces.front_matter import SpaceCard, check_space
from core.spaces.push import plan_space, space_target
from core.spaces.readme import LOOKS
from core.spaces.requirements import OF_THE_PLATFORM, package_name, space_requirements
from tests.core.hub_server import HubServer, serving

SLUGS = [spec.slug for spec in catalogue()]
every_slug = pytest.mark.parametrize("slug", SLUGS)
# What the platform installs beside gradio, and what comes with what is listed.
BROUGHT_ALONG = {"gradio", "huggingface_hub", "starlette", "yaml", "packaging", "pydantic", "jinja2", "tokenizers"}
# Imported where it is there, and inside functions that a page does not call: training, evaluation, other backends.
NEVER_ON_A_PAGE = {"spaces", "ray", "xformers", "flash_attn", "supervision", "trackers", "cvxpy", "dit", "ecos", "mslk"}


@pytest.fixture(scope="module")
def suite() -> Space:
    return make_space()


@pytest.fixture(scope="module")
def single() -> dict[str, Space]:
    return {slug: make_space(only=slug, repo_owner="someone") for slug in SLUGS}


def texts(space: Space) -> dict[str, str]:
    """The files that are text."""
    kinds = (".py", ".md", ".txt", ".toml")
    return {file.path: file.content.decode() for file in space.files if file.path.endswith(kinds)}


def test_the_suite_shows_every_technique_through_the_app_of_this_tree(suite: Space) -> None:
    assert list(suite.slugs) == SLUGS
    assert texts(suite)["app.py"] == (ROOT / "app.py").read_text(encoding="utf-8")


def test_a_space_is_small_enough_for_a_repository(suite: Space) -> None:
    assert suite.size < MAX_BYTES
    assert all(file.size < MAX_FILE_BYTES for file in suite.files)


def test_a_space_holds_no_tests_caches_or_hidden_files(suite: Space) -> None:
    for file in suite.files:
        parts = Path(file.path).parts
        assert not {"tests", "__pycache__", ".git", ".venv"} & set(parts), file.path
        assert file.path == ".gitattributes" or not any(part.startswith(".") for part in parts)


@every_slug
def test_a_single_technique_brings_its_own_files_and_no_other_s(single: dict[str, Space], slug: str) -> None:
    package = slug.replace("-", "_")
    found = {tuple(Path(file.path).parts[:2]) for file in single[slug].files}
    assert {name for folder, name in (parts for parts in found if len(parts) == 2) if folder == "plugins"} == {
        "__init__.py",
        package,
    }
    assert ("apps", package) in found
    others = {each.replace("-", "_") for each in SLUGS} - {package}
    assert not {("apps", other) for other in others} & found
    checkpoint = find(slug).checkpoint
    cards = {parts[1] for parts in found if parts[0] == "hub_cards"}
    assert cards == ({Path(checkpoint).name} if checkpoint and (ROOT / checkpoint).is_dir() else set())


@every_slug
def test_a_single_technique_s_app_opens_its_page_alone(single: dict[str, Space], slug: str) -> None:
    source = texts(single[slug])["app.py"]
    compile(source, "app.py", "exec")
    assert f'launch_page("{slug}")' in source
    assert len(source.splitlines()) < 12


@every_slug
def test_a_card_of_a_single_technique_is_valid_and_names_its_checkpoint(single: dict[str, Space], slug: str) -> None:
    card = SpaceCard.from_text(texts(single[slug])["README.md"])
    assert card.emoji == LOOKS[slug].emoji
    checkpoint = find(slug).checkpoint
    assert card.models == ((f"someone/{Path(checkpoint).name}",) if checkpoint else ())
    assert f"arxiv:{find(slug).paper}" in card.tags


@cache
def installed() -> Mapping[str, list[str]]:
    """The distributions that bring each top-level module."""
    return packages_distributions()


def imported(sources: dict[str, str]) -> set[str]:
    """Packages that any of the modules imports, those of the house and Python's own left out."""
    names: set[str] = set()
    for source in sources.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"apps", "core", "plugins", "app"}


@every_slug
def test_a_space_installs_everything_that_its_page_and_pipeline_import(single: dict[str, Space], slug: str) -> None:
    run = {
        path: text
        for path, text in texts(single[slug]).items()
        if path.endswith(".py") and path.startswith(("apps/", "plugins/")) and not Path(path).match("benchmark*.py")
    }
    listed = {package_name(line) for line in texts(single[slug])["requirements.txt"].splitlines()}
    distributions = installed()
    needed = imported(run) - BROUGHT_ALONG - NEVER_ON_A_PAGE
    lacking = {name for name in needed if not {each.lower() for each in distributions.get(name, [name])} & listed}
    assert lacking == set()


@pytest.mark.parametrize("hardware", ["cpu-basic", "l4x1", "t4-small", "a100-large", "rtx-pro-6000", "zero-a10g"])
def test_requirements_suit_the_hardware(hardware: str) -> None:
    lines = space_requirements(ROOT, SLUGS, hardware).splitlines()
    required = {package_name(line): Requirement(line) for line in lines if not line.startswith(("#", "-"))}
    assert not required.keys() & OF_THE_PLATFORM
    on_cpu, on_zero = hardware == "cpu-basic", hardware == "zero-a10g"
    assert ("xformers" in required) is (not on_cpu and not on_zero)
    assert any("download.pytorch.org/whl/cpu" in line for line in lines) is on_cpu
    assert required["torch"].specifier.contains("2.11.0")
    assert required["torch"].specifier.contains("2.13.0") is not on_zero
    assert not required["torch"].specifier.contains("2.9.1")


def test_the_browser_is_installed_only_where_an_agent_drives_it(single: dict[str, Space], suite: Space) -> None:
    with_packages = {slug for slug, space in single.items() if "packages.txt" in texts(space)}
    assert with_packages == {"ui-action"}
    assert "chromium" in texts(suite)["packages.txt"].split()


def test_a_built_folder_holds_the_same_and_can_be_built_again(tmp_path: Path) -> None:
    target = tmp_path / "new" / "space"
    space = build_space(target, only="attribution")
    on_disk = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert on_disk == {file.path: file.content for file in space.files}
    check_space(target, gradio=">=6.28,<7")
    assert build_space(target, only="attribution") == space


def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        build_space(tmp_path, only="attribution")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("given", "said"), [({"only": "nothing"}, "no technique 'nothing'"), ({"hardware": "h100"}, "no hardware 'h100'")]
)
def test_what_does_not_exist_is_refused_with_what_does(given: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        build_space(tmp_path / "space", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "limit"), [("MAX_FILE_BYTES", 1000), ("MAX_BYTES", 10_000)])
def test_what_is_too_large_is_not_written(
    name: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, name, limit)
    with pytest.raises(QuartetError, match="limit"):
        build_space(tmp_path / "space", only="attribution")
    assert not list(tmp_path.iterdir())


def test_links_caches_and_hidden_files_are_not_shipped(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "core" / "secret.py").symlink_to("/etc/passwd")
    (tmp_path / "core" / "__pycache__").mkdir()
    (tmp_path / "core" / "__pycache__" / "a.pyc").write_bytes(b"")
    (tmp_path / "core" / ".env").write_text("TOKEN=x")
    names = [path.relative_to(tmp_path).as_posix() for path in shipped_files(tmp_path, [])]
    assert names == ["LICENSE", "apps/__init__.py", "core/a.py", "plugins/__init__.py", "pyproject.toml"]


def tree(folder: Path) -> None:
    """The least that a Space is built from."""
    for name in ("LICENSE", "pyproject.toml", "apps/__init__.py", "core/a.py", "plugins/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")


@pytest.fixture
def run() -> Callable[..., Result]:
    """The two commands, as a command line."""
    app = typer.Typer()
    app.command("space")(space_command)
    app.command("push-space")(push_space_command)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def test_the_command_writes_a_space_and_says_how_large_it_is(run, tmp_path: Path) -> None:
    done = run("space", "--to", str(tmp_path / "space"), "--only", "attribution", "--hardware", "zero-a10g")
    assert done.exit_code == 0, done.output
    assert "attribution for zero-a10g" in done.output
    assert (tmp_path / "space" / "app.py").is_file()


def test_the_command_answers_a_mistake_with_one_sentence(run, tmp_path: Path) -> None:
    done = run("space", "--to", str(tmp_path / "space"), "--hardware", "toaster")
    assert done.exit_code == 2
    assert "error: There is no hardware 'toaster'" in done.output
    assert "Traceback" not in done.output


def test_a_dry_run_lists_every_file_and_contacts_nothing(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it opened a connection"))
    done = run("push-space", "--repo", "someone/attribution", "--only", "attribution", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "space someone/attribution" in done.output
    assert "app.py" in done.output


def test_a_name_without_an_owner_is_refused(suite: Space) -> None:
    with pytest.raises(InputError, match="names no owner"):
        space_target("quartet")
    assert plan_space(suite, space_target("someone/quartet")).size == suite.size


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A server of this machine that huggingface_hub takes for the Hub."""
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", "token-of-ann")
        yield server


def test_a_space_is_pushed_in_one_commit_and_again_in_none(run, hub: HubServer) -> None:
    arguments = ("push-space", "--repo", "ann/attribution", "--only", "attribution", "--private")
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    repository = hub.repositories["space", "ann/attribution"]
    assert (repository.sdk, repository.private) == ("gradio", True)
    assert [commit.message for commit in repository.commits] == ["initial commit", "Publish Attribution"]
    expected = {file.path: file.content for file in make_space(only="attribution", repo_owner="ann").files}
    assert {path: blob.content for path, blob in repository.head.files.items()} == expected
    assert "nothing to do" in run(*arguments).output
    assert len(repository.commits) == 2


def test_a_space_of_somebody_else_is_not_written_to(run, hub: HubServer) -> None:
    done = run("push-space", "--repo", "bob/attribution", "--only", "attribution")
    assert done.exit_code == 2
    assert "error:" in done.output
    assert "Traceback" not in done.output
    assert not hub.repositories
