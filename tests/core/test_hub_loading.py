"""Published checkpoints load from a folder, from the Hub, at a revision and from the cache alone, and are the same."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.hub.bundle import Bundle, bundle

from .hub_server import HubServer, serving

ROOT = Path(__file__).resolve().parents[2]
# Of each technique a setting that tells two revisions apart: its file, its name, what it is, and what it becomes.
SETTINGS: dict[str, tuple[str, str, Any, Any]] = {
    "tracking": ("config.json", "match_threshold", 0.65, 0.66),
    "sparse-video": ("model_index.json", "fps", 15.0, 30.0),
    "ui-action": ("config.json", "max_window_layers", 80, 81),
    "attribution": ("config.json", "initializer_range", 0.05, 0.06),
}
techniques = pytest.mark.parametrize("slug", list(SETTINGS))


@dataclass(frozen=True)
class Published:
    """Bundles on disk, and on a Hub with an older commit tagged "v1" and a newer one that differs in a setting."""

    hub: HubServer
    folders: dict[str, Path]
    first: dict[str, str]
    second: dict[str, str]
    place: Path


def changed(made: Bundle, slug: str) -> dict[str, bytes]:
    """The files of the newer commit."""
    file, name, old, new = SETTINGS[slug]
    files = {each.path: each.content for each in made.files}
    before = files[file].decode()
    files[file] = before.replace(f'"{name}": {json.dumps(old)}', f'"{name}": {json.dumps(new)}').encode()
    assert files[file].decode() != before
    return files


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    place = tmp_path_factory.mktemp("published")
    shutil.copy(Path(__file__).with_name("loading.py"), place)
    with serving() as hub:
        folders, first, second = {}, {}, {}
        for slug in SETTINGS:
            made = bundle(slug, place / slug.replace("-", "_"))
            folders[slug] = made.folder
            first[slug] = hub.add(f"ann/{slug}", {each.path: each.content for each in made.files})
            hub.model(f"ann/{slug}").tags["v1"] = first[slug]
            second[slug] = hub.add(f"ann/{slug}", changed(made, slug))
        yield Published(hub, folders, first, second, place)


def load(published: Published, mode: str, ways: list[tuple[str, str, dict[str, Any]]]) -> dict[str, Any]:
    """What a fresh process outside the checkout gets, with a home, caches and the Hub of its own."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(published.place),
        "HF_HOME": str(published.place / mode),
        "HF_ENDPOINT": published.hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        **({"PYTHONPATH": str(ROOT)} if mode == "suite" else {}),
    }
    done = subprocess.run(
        [sys.executable, "loading.py", mode, json.dumps(ways)],
        cwd=published.place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def with_suite(published):
    """What each technique's own pipeline gets: by slug, then in the order of the ways; and later requests."""
    ways: list[tuple[str, str, dict[str, Any]]] = []
    for slug, folder in published.folders.items():
        ways.append((slug, str(folder), {}))
        ways.append((slug, f"ann/{slug}", {}))
        ways.append((slug, f"ann/{slug}", {"revision": "v1"}))
    ways.append(("pause", "", {}))
    ways += [(slug, f"ann/{slug}", {"local_files_only": True}) for slug in SETTINGS]
    found = load(published, "suite", ways)["found"]
    requests = published.hub.requests
    later = requests[requests.index("GET /pause") + 1 :]
    return {slug: [each for each in found if each["slug"] == slug] for slug in SETTINGS}, later


@pytest.fixture(scope="module")
def alone(published, with_suite):
    """What transformers and diffusers get without the checkout: by slug, from the folder and from the Hub at "v1"."""
    ways = []
    for slug, folder in published.folders.items():
        trust = {} if slug == "ui-action" else {"trust_remote_code": True}
        ways.append((slug, str(folder), trust))
        ways.append((slug, f"ann/{slug}", trust | {"revision": "v1"}))
    found = load(published, "alone", ways)
    assert found["house"] == []
    return {slug: [each for each in found["found"] if each["slug"] == slug] for slug in SETTINGS}


@techniques
def test_every_way_of_loading_gives_the_same_weights_and_output_to_the_bit(with_suite, slug):
    found = with_suite[0][slug]
    assert len(found) == 4
    assert len({each["weights"] for each in found}) == 1
    assert len({each["output"] for each in found}) == 1


@techniques
def test_a_revision_gives_that_revision_and_main_the_newest(with_suite, published, slug):
    folder, newest, pinned, cached = with_suite[0][slug]
    _, _, old, new = SETTINGS[slug]
    assert [each["setting"] for each in (folder, newest, pinned, cached)] == [old, new, old, new]
    if slug not in ("ui-action", "attribution"):
        commits = [published.second[slug], published.first[slug], published.second[slug]]
        assert [each["revision"] for each in (newest, pinned, cached)] == commits


def test_the_cache_alone_serves_without_a_request(with_suite):
    assert with_suite[1] == []


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("tracking", ["SataPipeline", "multimodal-video-tracking"]),
        ("sparse-video", ["SparseVideoPipeline"]),
        ("ui-action", ["Qwen2_5_VLForConditionalGeneration"]),
        ("attribution", ["TwoStreamForClassification"]),
    ],
)
def test_without_the_checkout_a_folder_and_the_hub_give_the_same_as_the_suite(alone, with_suite, slug, expected):
    suite = with_suite[0][slug][0]
    assert len(alone[slug]) == 2
    for found in alone[slug]:
        assert found["pipeline"] == expected
        assert found["weights"] == suite["weights"]
        assert found.get("output", suite["output"]) == suite["output"]
        assert found.get("piped", suite["output"]) == suite["output"]
        assert found.get("setting", suite["setting"]) == suite["setting"]


def test_the_code_beside_the_agents_weights_is_a_package_that_answers_as_the_suite_does(alone, with_suite):
    assert alone["ui-action"][0]["output"] == with_suite[0]["ui-action"][0]["output"]


def test_transformers_own_processor_sees_what_the_agent_sees(alone, with_suite):
    for found in alone["ui-action"]:
        assert found["pixels"] == with_suite[0]["ui-action"][0]["pixels"]
        assert found["tokens"]
        if importlib.util.find_spec("torchvision") is None:  # transformers' video processor cannot do without it
            assert "requires the Torchvision library" in found["processor"]
        else:
            assert found["processor"] == "Qwen2_5_VLProcessor"


def test_code_is_not_run_unless_it_is_trusted(alone):
    # Once it was trusted transformers knows the model, and asks no more in that process.
    asked = [alone["tracking"][0], alone["attribution"][0], *alone["sparse-video"]]
    assert all("trust_remote_code=True" in found["untrusted"] for found in asked)
