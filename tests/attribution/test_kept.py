"""What outlives a call: counts of shards, saved folders, the published files."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.attribution import AttributionInputError, PIDAttributionPipeline
from plugins.attribution.plugin import SPEC
from plugins.attribution.synthetic import mixture, sample, sensors

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "attribution"


def codes(joint: np.ndarray, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sample(joint, n, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def symbols() -> PIDAttributionPipeline:
    """Fitted on two streams of symbols."""
    pipeline = PIDAttributionPipeline(bins=4)
    pipeline(*codes(mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 3000), names=("left", "right"))
    return pipeline


def test_counts_of_shards_explain_like_the_whole(symbols: PIDAttributionPipeline) -> None:
    x1, x2, y = codes(mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 3000)
    whole = symbols.count(x1, x2, y)
    parts = [symbols.count(x1[part], x2[part], y[part]) for part in np.array_split(np.arange(3000), 7)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert np.array_equal(merged.table, whole.table)
    explained = symbols.explain(merged, seed=3)
    assert explained == symbols.explain(whole, seed=3)
    at_once = PIDAttributionPipeline(bins=4)(x1, x2, y, names=("left", "right"), seed=3)
    assert explained.quantities == at_once.quantities
    assert explained.verdicts == at_once.verdicts
    assert explained.readings == ()
    assert explained.joint_information is None
    assert explained.examples == 3000


def test_a_shard_may_be_small_and_of_one_class(symbols: PIDAttributionPipeline) -> None:
    x1, x2, y = codes(mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 3000)
    by_class = [symbols.count(x1[y == k], x2[y == k], y[y == k]) for k in np.unique(y)]
    total = sum(counts.table for counts in by_class)
    assert np.array_equal(total, symbols.count(x1, x2, y).table)
    assert symbols.count(x1[:1], x2[:1], y[:1]).total == 1


def test_categories_keep_their_codes_in_a_shard_that_lacks_some() -> None:
    rng = np.random.default_rng(4)
    colour = rng.choice(["red", "green", "blue"], 300)
    place = rng.choice([f"place {i}" for i in range(15)], 300)
    label = np.where((colour == "red") ^ (rng.random(300) < 0.1), "stop", "go")
    pipeline = PIDAttributionPipeline()
    report = pipeline(colour, place, label)
    assert [(r.quantiser, r.symbols) for r in report.readings] == [("symbols", 3), ("symbols", 15)]
    whole = pipeline.count(colour, place, label)
    for kept in (colour != "blue", place != "place 0"):
        rest = pipeline.count(colour[~kept], place[~kept], label[~kept])
        assert np.array_equal(pipeline.count(colour[kept], place[kept], label[kept]).merge(rest).table, whole.table)
    with pytest.raises(AttributionInputError, match="x1 holds 'pink', which the discretiser was not fitted on"):
        pipeline.count(["pink"], ["place 1"], ["go"])
    with pytest.raises(AttributionInputError, match="x1 holds numbers, the discretiser was fitted on texts"):
        pipeline.count([1.0], ["place 1"], ["go"])


def test_counting_refuses_other_streams_columns_and_classes(symbols: PIDAttributionPipeline, tmp_path: Path) -> None:
    x1, x2, y = codes(mixture(1, 1, 1, 1), 100)
    np.savez(tmp_path / "swapped.npz", right=x2, left=x1, y=y)
    with pytest.raises(AttributionInputError, match="right and left, the discretiser was fitted on left and right"):
        symbols.count(tmp_path / "swapped.npz")
    with pytest.raises(AttributionInputError, match="left has 2 columns, the discretiser was fitted on 1"):
        symbols.count(np.stack([x1, x1], axis=1), x2, y)
    with pytest.raises(AttributionInputError, match="the target holds 9, which the discretiser was not fitted on"):
        symbols.count(x1, x2, np.full(100, 9))
    with pytest.raises(AttributionInputError, match="lengths differ"):
        symbols.count(x1, x2, y[:-1])


def test_weights_count_in_shards(symbols: PIDAttributionPipeline) -> None:
    x1, x2, y = codes(mixture(1, 1, 1, 1), 100)
    weighted = symbols.count(x1, x2, y, weights=np.full(100, 2.5))
    np.testing.assert_allclose(weighted.table, 2.5 * symbols.count(x1, x2, y).table)
    assert weighted.effective_sample_size == pytest.approx(100)


def test_counts_of_another_discretiser_are_not_explained(symbols: PIDAttributionPipeline) -> None:
    other = PIDAttributionPipeline()
    other(sensors(300))
    with pytest.raises(AttributionInputError, match="another discretiser"):
        other.explain(symbols.count(*codes(mixture(1, 1, 1, 1), 100)))
    with pytest.raises(AttributionInputError, match="no discretiser has been fitted"):
        PIDAttributionPipeline().count([1], [1], [1])


# Kept and loaded


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a network fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
def test_a_saved_folder_loads_offline_with_its_settings_and_discretiser(
    symbols: PIDAttributionPipeline, tmp_path: Path
) -> None:
    symbols.save_pretrained(tmp_path / "kept")
    assert {"config.json", "discretiser.safetensors"} <= {p.name for p in (tmp_path / "kept").iterdir()}
    back = PIDAttributionPipeline.from_pretrained(tmp_path / "kept")
    assert (back.bins, back.confidence, back.threshold) == (4, 0.9, 0.03)
    data = codes(mixture(0.3, 0.3, 0.1, 0.3, noise=0.2), 2000, seed=9)
    assert np.array_equal(back.count(*data).table, symbols.count(*data).table)
    assert back.explain(symbols.count(*data)) == symbols.explain(back.count(*data))
    assert PIDAttributionPipeline.from_pretrained(tmp_path / "kept", threshold=0.1).threshold == 0.1


@pytest.mark.usefixtures("offline")
def test_settings_alone_are_kept_too(tmp_path: Path) -> None:
    PIDAttributionPipeline(("kmeans", "auto"), bins=7, confidence=0.95, threshold=0.05).save_pretrained(tmp_path)
    back = PIDAttributionPipeline.from_pretrained(str(tmp_path), device="cpu", dtype=None, attention="sdpa")
    assert (back.quantiser, back.bins, back.confidence, back.threshold) == (("kmeans", "auto"), 7, 0.95, 0.05)
    assert back.discretiser is None


def hub_cache(folder: Path, repo: str, commit: str = "a" * 40) -> Path:
    """An empty snapshot of a repository in a Hub cache, as huggingface_hub lays it out."""
    root = folder / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    return root / "snapshots" / commit


@pytest.mark.usefixtures("offline")
def test_a_repository_in_the_hub_cache_loads_with_local_files_only(
    symbols: PIDAttributionPipeline, tmp_path: Path
) -> None:
    symbols.save_pretrained(hub_cache(tmp_path, "owner/kept"))
    back = PIDAttributionPipeline.from_pretrained("owner/kept", cache_dir=tmp_path, local_files_only=True)
    assert back.discretiser is not None
    assert symbols.discretiser is not None
    assert back.discretiser.identity == symbols.discretiser.identity


@pytest.mark.usefixtures("offline")
def test_a_cached_repository_without_a_discretiser_loads_only_if_it_is_known_to_have_none(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path, "owner/settings")
    PIDAttributionPipeline(bins=6).save_pretrained(snapshot)
    with pytest.raises(AttributionInputError, match="nor in the Hub cache"):  # it may just not be downloaded yet
        PIDAttributionPipeline.from_pretrained("owner/settings", cache_dir=tmp_path, local_files_only=True)
    absent = snapshot.parents[1] / ".no_exist" / snapshot.name
    absent.mkdir(parents=True)
    (absent / "discretiser.safetensors").touch()
    back = PIDAttributionPipeline.from_pretrained("owner/settings", cache_dir=tmp_path, local_files_only=True)
    assert (back.bins, back.discretiser) == (6, None)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder"])
def test_what_is_neither_folder_nor_cached_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(AttributionInputError, match=r"neither a folder here, nor in the Hub cache.*save_pretrained"):
        PIDAttributionPipeline.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)


def test_a_damaged_folder_is_refused(symbols: PIDAttributionPipeline, tmp_path: Path) -> None:
    symbols.save_pretrained(tmp_path)
    path = tmp_path / "discretiser.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(AttributionInputError, match="not a fitted discretiser"):
        PIDAttributionPipeline.from_pretrained(tmp_path)


def test_half_precision_is_refused_where_there_is_no_model(tmp_path: Path) -> None:
    PIDAttributionPipeline().save_pretrained(tmp_path)
    with pytest.raises(AttributionInputError, match="float64 only"):
        PIDAttributionPipeline.from_pretrained(tmp_path, dtype=torch.float16)


# The published files


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from published.decomposition import decompose
from published.pipeline import PIDAttributionPipeline

joint = np.zeros((2, 2, 2))
joint[0, 0, 0] = joint[0, 1, 1] = joint[1, 0, 1] = joint[1, 1, 0] = 0.25
print(float(decompose(joint).synergy))
x1, x2 = np.random.default_rng(0).integers(0, 2, (2, 400))
pipeline = PIDAttributionPipeline()
print(pipeline(x1, x2, x1 ^ x2).verdicts[0].decision)
pipeline.save_pretrained(sys.argv[1] + "/kept")
print(PIDAttributionPipeline.from_pretrained(sys.argv[1] + "/kept").count(x1, x2, x1 ^ x2).total)
print(type(PIDAttributionPipeline.from_pretrained(sys.argv[2]).model).__module__)
print(sorted(m.removeprefix("published.") + ".py" for m in sys.modules if m.startswith("published.")))
print([m for m in sys.modules if m.split(".")[0] in ("core", "apps", "plugins", "gradio")])
"""


def test_the_published_files_run_alone_and_none_is_missing_or_idle(tmp_path: Path) -> None:
    package = tmp_path / "published"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in SPEC.published:
        shutil.copy(PLUGIN / name, package / name)
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), f"{PLUGIN.parents[1]}/{SPEC.checkpoint}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    synergy, decision, total, model, loaded, house = done.stdout.strip().splitlines()
    assert model == "published.modeling_two_stream"
    assert float(synergy) == pytest.approx(1.0)
    assert (decision, float(total)) == ("needs early fusion", 400)
    assert ast.literal_eval(loaded) == sorted(SPEC.published)
    assert house == "[]"
