"""Checkpoints from folders, from our own names and from the Hub cache; safetensors only, offline honoured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from core.errors import InputError, UnavailableError
from core.hub import resolve, resolve_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file({"weight": np.ones(3, np.float32)}, folder / "model.safetensors")
    return folder


def make_cache(home: Path, repo_id: str = "owner/tiny", commit: str = COMMIT) -> Path:
    """A Hub cache as huggingface_hub lays it out: blobs, a snapshot of links to them, and refs/main."""
    repo = home / "hub" / ("models--" + repo_id.replace("/", "--"))
    snapshot = repo / "snapshots" / commit
    files = make_checkpoint(repo / "blobs")
    snapshot.mkdir(parents=True)
    for file in files.iterdir():
        (snapshot / file.name).symlink_to(file)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return snapshot


class HubHandler(BaseHTTPRequestHandler):
    """The few answers of the Hub's API that a download needs, for the repositories of `files`."""

    files: ClassVar[dict[str, dict[str, bytes]]] = {}
    sent: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, "ETag": '"0"'} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/models").strip("/")
        repo = "/".join(path.split("/")[:2])
        kind, name = path.removeprefix(repo).strip("/").partition("/")[0], path.split("/", 4)[-1]
        files = self.files.get(repo)
        if files is None:
            return self.answer(b"{}", 404, X_Error_Code="RepoNotFound")
        if kind == "resolve":
            self.sent.append(name)
            return self.answer(files[name], ETag=f'"{zlib.crc32(files[name])}"')
        listed = [{"type": "file", "path": key, "size": len(data), "oid": key} for key, data in files.items()]
        siblings = [{"rfilename": key} for key in files]
        info = {"id": repo, "sha": COMMIT, "siblings": siblings}
        return self.answer(json.dumps(listed if kind == "tree" else info).encode())

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def served(tmp_path):
    """A small Hub on this machine: its handler class and its address."""
    handler = type("Handler", (HubHandler,), {"files": {}, "sent": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def resolve_in_subprocess(home: Path, *arguments: str, offline: bool = True, endpoint: str = "") -> str:
    """Print what `resolve_checkpoint(*arguments)` gives in a fresh interpreter with its own HF_HOME."""
    code = (
        "from core.hub import resolve_checkpoint\n"
        f"try: print('FOUND', resolve_checkpoint({', '.join(arguments)}))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1" if offline else "0"}
    environment.pop("HF_HUB_CACHE", None)
    if endpoint:
        environment["HF_ENDPOINT"] = endpoint
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_folder_is_found_where_it_is(tmp_path):
    folder = make_checkpoint(tmp_path / "mine")

    found = resolve_checkpoint(folder)

    assert found.path == folder
    assert found.repo_id is None
    assert found.revision is None


def test_a_relative_folder_is_found_from_the_current_directory(tmp_path, monkeypatch):
    make_checkpoint(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("mine").path == tmp_path / "mine"


@pytest.mark.parametrize("name", ["tiny-model", "hub_cards/tiny-model"])
def test_our_own_name_is_found_in_hub_cards_from_any_directory(tmp_path, monkeypatch, name):
    make_checkpoint(tmp_path / "hub_cards" / "tiny-model")
    monkeypatch.setattr(resolve, "_CARDS", tmp_path / "hub_cards")
    monkeypatch.chdir("/")
    assert resolve_checkpoint(name).path == tmp_path / "hub_cards" / "tiny-model"


@pytest.mark.parametrize("name", ["hub_cards/../secret", "hub_cards//secret", "hub_cards/..", "hub_cards/"])
def test_our_own_names_cannot_leave_hub_cards(tmp_path, monkeypatch, name):
    make_checkpoint(tmp_path / "secret")
    (tmp_path / "hub_cards").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(resolve, "_CARDS", tmp_path / "hub_cards")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no checkpoint folder"):
        resolve_checkpoint(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b/c",
        "owner/..",
        "owner/na me",
        "owner--x/name",
        "x\0y",
        "https://huggingface.co/a/b",
        "n" * 5000,
    ],
)
def test_a_name_that_cannot_be_on_the_hub_is_refused_without_asking_the_hub(name):
    with pytest.raises(InputError, match="neither a folder here nor a Hub id"):
        resolve_checkpoint(name)


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "../missing", "~/missing-folder"])
def test_a_missing_folder_is_called_a_missing_folder(name):
    with pytest.raises(InputError, match="no checkpoint folder"):
        resolve_checkpoint(name)


def test_a_file_in_place_of_its_folder_is_named(tmp_path):
    folder = make_checkpoint(tmp_path / "mine")
    with pytest.raises(InputError, match="is a file; give the folder"):
        resolve_checkpoint(folder / "model.safetensors")


def test_a_revision_for_a_folder_is_refused_and_not_ignored(tmp_path):
    with pytest.raises(InputError, match="which has none; drop it"):
        resolve_checkpoint(make_checkpoint(tmp_path), revision="main")


@pytest.mark.parametrize("revision", ["../../../etc", "/etc/passwd", "a/../b", "", "a//b", ".hidden", "main\n", "a..b"])
def test_a_revision_cannot_leave_the_cache(revision):
    with pytest.raises(InputError, match="not a revision"):
        resolve_checkpoint("owner/name", revision=revision, local_files_only=True)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.PTH", "x.ckpt", "x.pkl", "x.pickle"])
def test_a_folder_with_only_pickles_is_refused_with_the_way_out(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    torch.save({"weight": torch.ones(1)}, tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}.*run code.*save_pretrained"):
        resolve_checkpoint(tmp_path)


def test_a_component_with_only_pickles_is_refused_though_another_is_fine(tmp_path):
    make_checkpoint(tmp_path / "transformer")
    (tmp_path / "vae").mkdir()
    torch.save({}, tmp_path / "vae" / "model.bin")
    with pytest.raises(InputError, match=r"vae/model\.bin"):
        resolve_checkpoint(tmp_path)


def test_a_pickle_beside_safetensors_is_left_alone(tmp_path):
    folder = make_checkpoint(tmp_path)
    torch.save({}, folder / "training_args.bin")
    assert resolve_checkpoint(folder).path == folder


def test_a_checkpoint_with_a_missing_shard_is_called_incomplete(tmp_path):
    folder = make_checkpoint(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnavailableError, match=r"model-00002-of-00002\.safetensors is missing \(1 of 2 files\)"):
        resolve_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", 7])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path, shard):
    folder = make_checkpoint(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(InputError, match="outside its folder"):
        resolve_checkpoint(folder)


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index_is_called_broken(tmp_path, text):
    folder = make_checkpoint(tmp_path)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match="not a safetensors index"):
        resolve_checkpoint(folder)


def test_a_cached_repository_loads_offline(tmp_path):
    snapshot = make_cache(tmp_path)
    found = resolve_in_subprocess(tmp_path, "'owner/tiny'")
    assert found.startswith("FOUND")
    assert str(snapshot) in found
    assert f"revision='{COMMIT}'" in found


def test_a_cached_commit_loads_by_its_hash(tmp_path):
    snapshot = make_cache(tmp_path)
    assert str(snapshot) in resolve_in_subprocess(tmp_path, "'owner/tiny'", f"revision='{COMMIT}'")


def test_a_cached_snapshot_with_only_pickles_is_refused_offline(tmp_path):
    snapshot = make_cache(tmp_path)
    (snapshot / "model.safetensors").unlink()
    torch.save({}, snapshot / "pytorch_model.bin")
    assert "InputError" in resolve_in_subprocess(tmp_path, "'owner/tiny'")


def test_offline_without_a_cache_says_what_to_do(tmp_path):
    answer = resolve_in_subprocess(tmp_path, "'owner/tiny'")
    assert answer.startswith("UnavailableError")
    assert "HF_HUB_OFFLINE=1" in answer
    assert "hf download owner/tiny" in answer


def test_local_files_only_contacts_nothing_and_says_what_to_do(tmp_path):
    answer = resolve_in_subprocess(tmp_path, "'owner/tiny'", "local_files_only=True", offline=False)
    assert answer.startswith("UnavailableError")
    assert "local_files_only forbids" in answer


def test_a_download_takes_safetensors_and_leaves_pickles_on_the_hub(tmp_path, served):
    handler, endpoint = served
    weights = (make_checkpoint(tmp_path / "source") / "model.safetensors").read_bytes()
    handler.files["owner/tiny"] = {
        "config.json": b"{}",
        "model.safetensors": weights,
        "pytorch_model.bin": b"pickle",
        "old/MODEL.PT": b"pickle",
        "model.onnx": b"onnx",
    }

    answer = resolve_in_subprocess(tmp_path / "home", "'owner/tiny'", offline=False, endpoint=endpoint)

    assert answer.startswith("FOUND")
    assert f"revision='{COMMIT}'" in answer
    assert set(handler.sent) == {"config.json", "model.safetensors"}
    again = resolve_in_subprocess(tmp_path / "home", "'owner/tiny'", endpoint=endpoint)
    assert again == answer


def test_a_hub_repository_with_only_pickles_is_refused_without_downloading_them(tmp_path, served):
    handler, endpoint = served
    handler.files["owner/old"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}

    answer = resolve_in_subprocess(tmp_path, "'owner/old'", "allow_patterns=['*']", offline=False, endpoint=endpoint)

    assert answer.startswith("InputError owner/old holds pickle weights")
    assert "pytorch_model.bin" in answer
    assert set(handler.sent) <= {"config.json"}


def test_a_repository_that_the_hub_does_not_have_is_named(tmp_path, served):
    answer = resolve_in_subprocess(tmp_path, "'owner/none'", offline=False, endpoint=served[1])
    assert answer.startswith("InputError The Hub has no model 'owner/none'")


def test_a_hub_that_cannot_be_reached_says_what_to_do(tmp_path):
    answer = resolve_in_subprocess(tmp_path, "'owner/tiny'", offline=False, endpoint="http://127.0.0.1:9")
    assert answer.startswith("UnavailableError owner/tiny is not in the Hub cache and the Hub cannot be reached.")
