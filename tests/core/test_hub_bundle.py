"""What a technique publishes on the Hub: its card's folder and its code, the same bytes each time, or nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import InputError, QuartetError
from core.hub import bundle as bundling
from core.hub.bundle import RepositoryFile, bundle, repository_files, write_folder
from core.hub.code import for_diffusers, plugin_folder, published_code
from core.registry import catalogue, find

ROOT = Path(__file__).resolve().parents[2]
WITH_WEIGHTS = [spec for spec in catalogue() if spec.checkpoint is not None]
techniques = pytest.mark.parametrize("spec", WITH_WEIGHTS, ids=lambda spec: spec.slug)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def card(tmp_path, monkeypatch) -> Path:
    """A copy of tracking's card, which a test may damage, in the place of the real one."""
    folder = tmp_path / "house" / "hub_cards" / "sata-tiny"
    write_folder(
        [file for file in repository_files("tracking") if file.path != ".gitattributes" and file.size < 1_000_000],
        folder,
    )
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(bundling, "ROOT", tmp_path / "house")
    return folder


@techniques
def test_a_bundle_made_twice_is_the_same_to_the_byte(spec, tmp_path):
    first, second = (bundle(spec.slug, tmp_path / name) for name in ("first", "second"))
    assert read(first.folder) == read(second.folder)
    assert read(first.folder) == {file.path: file.content for file in first.files}


@techniques
def test_a_bundle_holds_the_cards_folder_and_the_published_code_and_nothing_else(spec):
    card = ROOT / (spec.checkpoint or "")
    tracked = subprocess.run(["git", "ls-files", "."], cwd=card, capture_output=True, text=True).stdout.split()
    found = {file.path: file.content for file in repository_files(spec.slug)}
    added = {".gitattributes", *spec.published}
    if "model_index.json" in found:
        added.add(f"{plugin_folder(spec).name}_pipeline.py")
    assert set(found) == {path.relative_to(card).as_posix() for path in card.rglob("*") if is_published(path)} | added
    assert set(tracked) <= set(found)
    same = set(found) - added - {"model_index.json"}
    assert {name: found[name] for name in same} == {name: (card / name).read_bytes() for name in same}


def is_published(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")


@techniques
def test_the_code_of_a_bundle_is_the_plugins_program(spec):
    found = {file.path: file.content for file in repository_files(spec.slug)}
    for name, source in published_code(spec).items():
        assert ast.dump(ast.parse(found[name])) == ast.dump(ast.parse(source))


def test_a_diffusers_index_names_the_file_to_begin_at_and_keeps_all_else():
    found = {file.path: file.content for file in repository_files("sparse-video")}
    card = json.loads((ROOT / "hub_cards" / "sparse-video-tiny" / "model_index.json").read_text())
    assert json.loads(found["model_index.json"]) == card | {
        "_class_name": ["sparse_video_pipeline", "SparseVideoPipeline"]
    }


def test_large_files_are_marked_for_lfs():
    found = {file.path: file.content for file in repository_files("sparse-video")}
    assert b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n" in found[".gitattributes"]


def test_a_bundle_is_written_over_an_earlier_one_and_left_alone_where_it_is_whole(tmp_path):
    files = [RepositoryFile("a.txt", b"1"), RepositoryFile("sub/b.txt", b"2")]
    write_folder(files, tmp_path / "to")
    inode = (tmp_path / "to").stat().st_ino
    write_folder(files, tmp_path / "to")
    assert (tmp_path / "to").stat().st_ino == inode
    (tmp_path / "to" / "a.txt").write_bytes(b"damaged")
    write_folder(files, tmp_path / "to")
    assert read(tmp_path / "to") == {"a.txt": b"1", "sub/b.txt": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"holds something else \(thesis.tex\): name a new or empty folder"):
        bundle("tracking", tmp_path)
    assert read(tmp_path) == {"thesis.tex": b"mine"}


def test_a_file_or_a_link_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(InputError, match="is not a folder"):
            write_folder([RepositoryFile("a", b"")], tmp_path / name)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    write_folder([RepositoryFile("a", b"old")], tmp_path / "to")

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder([RepositoryFile("a", b"new")], tmp_path / "to")
    assert read(tmp_path) == {"to/a": b"old"}


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "", ".", "a//b", "a\\b", "./a"])
def test_a_path_that_leaves_the_repository_is_refused(path):
    with pytest.raises(InputError, match="cannot be a file of a repository"):
        RepositoryFile(path, b"")


def test_code_in_the_cards_folder_that_is_not_the_plugins_is_refused(card):
    (card / "boxes.py").write_text("# an older one\n")
    (card / "another.py").write_text("")
    with pytest.raises(QuartetError, match=r"code that is not the plugin's now \(another.py, boxes.py\)"):
        repository_files("tracking")


def test_caches_stay_out_and_leftovers_are_refused(card):
    before = {file.path for file in repository_files("tracking")}
    (card / "__pycache__").mkdir()
    (card / "__pycache__" / "boxes.cpython-311.pyc").write_bytes(b"")
    (card / ".DS_Store").write_bytes(b"")
    assert {file.path for file in repository_files("tracking")} == before
    (card / "optimiser.npz").write_bytes(b"")
    with pytest.raises(QuartetError, match=r"sata-tiny/optimiser.npz is not part of a published checkpoint"):
        repository_files("tracking")


def test_pickles_and_links_are_refused(card):
    (card / "more").mkdir()
    (card / "more" / "weights.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="A pickle can run code"):
        repository_files("tracking")
    (card / "more" / "weights.bin").unlink()
    (card / "secret.txt").symlink_to("/etc/hostname")
    with pytest.raises(QuartetError, match="plain files"):
        repository_files("tracking")


def test_a_technique_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="There is no technique 'nothing'"):
        repository_files("nothing")


def test_a_text_that_reads_like_an_import_is_not_changed_in_silence():
    source = b'text = """\nfrom .a import b\n"""\n'
    with pytest.raises(QuartetError, match="would be changed"):
        for_diffusers(find("sparse-video"), {"a.py": source}, b"{}")


def test_help_imports_neither_torch_nor_the_hub():
    heavy = ("torch", "huggingface_hub", "transformers", "gradio")
    code = f"""
import runpy, sys
sys.argv = ["core.hub", "--help"]
try:
    runpy.run_module("core.hub", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "bundle" in done.stdout
    assert "push" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
