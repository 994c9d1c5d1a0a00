"""Evaluation: which scenes it takes, what trackers are shown and asked, what their scores say, what is reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from core.jsonfile import to_text
from plugins.tracking.conditions import MIXED
from plugins.tracking.errors import TrackingError
from plugins.tracking.evaluate import as_markdown, cases_of, evaluate, evaluate_command
from plugins.tracking.evaluate_run import Case, Clips, run_cases, utilisation
from plugins.tracking.evaluate_scores import figures, pooled, writable
from plugins.tracking.evaluate_suite import bars, find, findings, suite_cases
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.scenes import Scene
from plugins.tracking.session import SataSession
from tests.tracking.clips import mask_clip, rectangle
from tests.tracking.tiny import tiny_model, wake_experts

SIDE = 48
Change = Callable[[int, FrameInstances], FrameInstances]


@dataclass(frozen=True)
class Recorded(Clips):
    """Clips that remember what scenes were made."""

    made: list[Scene] = field(default_factory=list)

    def scene(self, seed: int, condition: str) -> Scene:
        self.made.append(super().scene(seed, condition))
        return self.made[-1]


class Oracle:
    """A tracker that knows the scene and says what is there, or what `change` makes of it."""

    def __init__(self, scene: Scene, task: str, change: Change) -> None:
        self.truth, self.task, self.change = Tracks.from_id_map(scene.ids), task, change
        self.shown: list[Mapping[str, Any]] = []
        self.prompts: dict[int, tuple[int, dict[str, Any]]] = {}

    def add_prompt(self, id: int, **drawn: Any) -> int:
        self.prompts[id] = (len(self.shown), {name: value for name, value in drawn.items() if value is not None})
        return len(self.shown)

    def step(self, frames: Mapping[str, np.ndarray | None]) -> FrameInstances:
        found = self.truth.frames[len(self.shown)]
        self.shown.append(frames)
        if self.task in ("sot", "vos"):
            found = found.select(self.prompts)
        found = self.change(len(self.shown) - 1, found)
        return found if self.task in ("vos", "mots") else found.without_masks()


@dataclass
class Studio:
    """Clips, and oracles for whichever scene was made last."""

    clips: Recorded
    change: Change = lambda _, found: found
    sessions: list[Oracle] = field(default_factory=list)

    def start(self, task: str) -> Oracle:
        self.sessions.append(Oracle(self.clips.made[-1], task, self.change))
        return self.sessions[-1]


def studio(*seeds: int, change: Change = lambda _, found: found, frames: int = 8) -> Studio:
    return Studio(Recorded(seeds or (3, 4), frames, (SIDE, SIDE)), change)


def scores_of(studio: Studio, *cases: Case) -> list[dict[str, float]]:
    outcomes, _ = run_cases(studio.start, cases, studio.clips)
    return [figures(pooled(outcome.scores.values())) for outcome in outcomes]


def renamed(found: FrameInstances, names: Mapping[int, int]) -> FrameInstances:
    ids = np.array([names.get(id, id) for id in found.ids.tolist()], np.int64)
    return FrameInstances(ids, found.xyxy, found.masks, found.scores)


class TestCases:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"task": "vis"}, "unknown task 'vis'"),
            ({"condition": "fog"}, "unknown condition 'fog'"),
            ({"cut": "depth"}, "cannot be cut"),
            ({"modalities": ("rgb",), "cut": "rgb"}, "cannot be cut"),
            ({"prompt": "scribble"}, "unknown prompt"),
        ],
    )
    def test_a_case_that_cannot_be_says_what_can(self, given, message):
        with pytest.raises(TrackingError, match=message):
            Case(**({"task": "vos"} | given))

    def test_vos_is_prompted_by_masks_and_sot_by_boxes_unless_told(self):
        assert [Case(task).prompt for task in ("vos", "sot", "mots")] == ["mask", "box", None]
        assert Case("vos", prompt="box").prompt == "box"


class TestScores:
    @pytest.mark.parametrize(
        ("task", "names"),
        [
            ("sot", ("success_auc", "precision", "normalised_precision", "average_overlap")),
            ("vos", ("j", "f", "j_and_f", "late_j")),
            ("mot", ("hota", "det_a", "ass_a", "id_f1", "mota")),
            ("mots", ("hota", "det_a", "ass_a", "id_f1", "mota", "smotsa", "motsp")),
        ],
    )
    def test_the_truth_scores_one(self, task, names):
        (found,) = scores_of(studio(), Case(task, "occlusion"))
        perfect = 20 / 21 if task == "sot" else 1  # no overlap is above the last of 21 thresholds, which is 1
        assert {name: found[name] for name in names} == pytest.approx(
            dict.fromkeys(names, 1) | ({"success_auc": perfect} if task == "sot" else {})
        )
        assert found.get("id_switches", 0) == 0

    def test_swapped_ids_are_counted_as_switches_and_nothing_else(self):
        def swap(frame: int, found: FrameInstances) -> FrameInstances:
            return renamed(found, {1: 2, 2: 1} if frame >= 4 else {})

        one = studio(3, 4, 5, change=swap)
        (found,) = scores_of(one, Case("mots", "twins"))
        switched = sum(
            any(id in boxes for boxes in scene.boxes[:4]) and any(id in boxes for boxes in scene.boxes[4:])
            for scene in one.clips.made
            for id in (1, 2)
        )
        assert found["id_switches"] == switched > 0
        assert found["det_a"] == 1
        assert found["ass_a"] < 0.9
        assert found["id_f1"] < 1

    def test_an_answer_that_is_nowhere_near_scores_nothing(self):
        def corner(_: int, found: FrameInstances) -> FrameInstances:
            masks = np.zeros_like(found.masks)
            return FrameInstances(found.ids, np.zeros((len(found), 4)), masks, found.scores)

        found = scores_of(studio(change=corner), Case("vos"), Case("mots"), Case("sot"))
        assert found[0]["j"] < 0.05
        assert found[1]["hota"] == 0
        assert found[2]["average_overlap"] == 0

    def test_the_prompted_frame_does_not_count(self):
        def late(frame: int, found: FrameInstances) -> FrameInstances:
            return found.select([]) if frame == 0 else found

        one = studio(change=late)
        (found,) = scores_of(one, Case("vos"))
        assert any(first == 0 for scene in one.clips.made for first in scene.first_prompt.values())
        assert found["j"] == 1

    def test_each_pixel_is_in_one_mask_and_empty_masks_are_gone(self):
        clip = mask_clip({1: rectangle(0, 0, 5, 5), 2: rectangle(0, 0, 5, 5), 3: rectangle(8, 0, 2, 2)})
        (frame,) = writable(clip).frames
        assert frame.ids.tolist() == [1, 3]

    def test_clips_without_anything_to_judge_do_not_count(self):
        assert figures(pooled([{}, {"average_overlap": 0.5}, {"average_overlap": 1.0}])) == {"average_overlap": 0.75}
        assert figures(pooled([{}])) == {}


class TestWhatTrackersAreShown:
    def test_every_scene_is_made_once(self):
        one = studio()
        cases = [Case("vos"), Case("mots"), Case("vos", "night"), Case("vos", "day", ("rgb",))]
        outcomes, _ = run_cases(one.start, cases, one.clips)
        assert [outcome.case for outcome in outcomes] == cases
        assert all(set(outcome.scores) == {3, 4} for outcome in outcomes)
        assert len(one.clips.made) == 4
        assert len(one.sessions) == 8

    def test_only_the_sensors_of_the_case_are_shown_and_a_cut_one_goes_off_in_the_middle(self):
        one = studio(3)
        scores_of(one, Case("vos", "day", ("rgb", "depth"), cut="rgb"))
        (scene,), (session,) = one.clips.made, one.sessions
        assert all(set(frames) == {"rgb", "depth"} for frames in session.shown)
        assert [frames["rgb"] is None for frames in session.shown] == [False] * 4 + [True] * 4
        assert all(np.array_equal(frames["depth"], scene.frames["depth"][t]) for t, frames in enumerate(session.shown))

    def test_vos_is_asked_for_every_object_where_it_can_first_be_seen(self):
        one = studio(3)
        scores_of(one, Case("vos", "occlusion"), Case("vos", "occlusion", prompt="box"))
        (scene,), (masks, boxes) = one.clips.made, one.sessions
        assert {id: frame for id, (frame, _) in masks.prompts.items()} == scene.first_prompt
        for id, (frame, drawn) in masks.prompts.items():
            assert np.array_equal(drawn["mask"], scene.ids[frame] == id)
        assert {id: drawn["box"] for id, (_, drawn) in boxes.prompts.items()} == {
            id: scene.boxes[frame][id] for id, frame in scene.first_prompt.items()
        }

    def test_sot_is_asked_for_one_object_and_mots_for_none(self):
        one = studio(3)
        scores_of(one, Case("sot", "twins"), Case("mots", "twins"))
        single, none = one.sessions
        assert list(single.prompts) == [min(one.clips.made[0].first_prompt)]
        assert set(single.prompts[1][1]) == {"box"}
        assert none.prompts == {}


class TestOurSession:
    @pytest.fixture(scope="class")
    def start(self):
        loose: dict[str, Any] = {"mask_affinity_threshold": 0.1, "match_threshold": -1.0, "keep_threshold": 0.0}
        model = wake_experts(tiny_model(**loose, new_track_threshold=0.0))
        return lambda task: SataSession(model, task, longest=SIDE)

    def test_experts_are_counted_by_block_and_group(self, start):
        cases = [Case("vos", modalities=("rgb", "depth")), Case("vos", modalities=("thermal",))]
        _, loads = run_cases(start, cases, Clips((3,), 3, (64, 64)))
        rows = utilisation(loads)
        assert [row["group"] for row in rows[:4]] == ["common", "rgb", "thermal", "depth"]
        assert {row["layer"] for row in rows} == set(range(5))
        for layer in range(5):
            selections = {row["group"]: row["selections"] for row in rows if row["layer"] == layer}
            assert selections["common"] == sum(selections.values()) / 2
            assert selections["rgb"] == selections["depth"] == selections["thermal"]
        assert all(sum(row["shares"]) == pytest.approx(1) and row["least"] == min(row["shares"]) for row in rows)

    def test_the_command_prints_what_it_writes(self, start, tmp_path):
        from plugins.tracking.pipeline_sata import SataPipeline

        SataPipeline(tiny_model()).save_pretrained(str(tmp_path / "tiny"))
        app = typer.Typer()
        app.command()(evaluate_command)
        options = (
            "--task mots --condition mixed --modalities rgb,thermal --seeds 3:4 --frames 3 --side 64 --no-baseline"
        )
        file = tmp_path / "report.json"
        done = CliRunner().invoke(
            app, [*options.split(), "--checkpoint", str(tmp_path / "tiny"), "--json", str(file)], catch_exceptions=False
        )
        assert done.exit_code == 0
        report = json.loads(file.read_text())
        assert done.stdout.strip() == as_markdown(report).strip()
        assert {"date", "versions", "seeds", "checkpoint", "frames", "size", "prompts"} <= report.keys()
        assert report["seeds"] == "3:4"
        assert [row["condition"] for row in report["cases"]] == [*MIXED, "mixed"]

    def test_the_command_refuses_before_it_loads_anything(self, tmp_path):
        with pytest.raises(TrackingError, match="name a file in a folder that exists"):
            evaluate_command(json=tmp_path / "no" / "report.json")
        with pytest.raises(TrackingError, match="overlap those of training"):
            evaluate_command(seeds="20000000:20000002", checkpoint="nowhere")


class TestReport:
    @pytest.fixture(scope="class")
    def report(self):
        one = studio(3, frames=6)
        report = evaluate(one.start, suite_cases(), one.clips, with_bars=True, notes=["nothing else"])
        return {"checkpoint": "an oracle"} | report

    def test_the_suite_asks_for_nothing_twice(self):
        cases = suite_cases()
        assert len(cases) == len(set(cases))

    def test_the_tables_say_what_the_json_says(self, report):
        read = json.loads(to_text(report))
        text = as_markdown(read)
        assert text == as_markdown(report)
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
        for row in read["cases"]:
            if row["task"] == "vos":
                sensors = " + ".join(row["modalities"]) + (f", {row['cut']} cut" if row["cut"] else "")
                figures_ = [f"{row['scores'][name]:.3f}" for name in ("j", "f", "j_and_f", "late_j")]
                assert [row["condition"], sensors, str(row["clips"]), *figures_] in lines
        for bar in read["bars"]:
            assert any(cells[0] == bar["text"] for cells in lines)
        assert "- nothing else" in text

    def test_mixed_pools_the_four_conditions(self, report):
        mixed, parts = (
            [row for row in report["cases"] if row["task"] == "mots" and row["condition"] in names and not row["cut"]
             and row["modalities"] == ["rgb", "thermal"]]
            for names in (("mixed",), MIXED)
        )  # fmt: skip
        assert [row["clips"] for row in mixed] == [4]
        assert mixed[0]["scores"]["true_instances"] == sum(row["scores"]["true_instances"] for row in parts)

    def test_the_truth_meets_the_bars_that_truth_can_meet(self, report):
        met = {bar["text"]: bar["met"] for bar in report["bars"]}
        for text in ("day, VOS j_and_f", "day, SOT success_auc", "day, MOTS hota", "mixed, MOTS ass_a"):
            assert met[text] is True
        assert met["day, thermal cut: J kept from there on"] is True
        assert met["night, J gained by thermal"] is False
        assert met["twins, HOTA over the better ByteTrack"] is None
        assert met["least share of an expert"] is None

    def test_findings_compare_the_rows_that_belong_together(self):
        def row(task: str, condition: str, sensors: str, cut: str | None = None, **scores: float) -> dict[str, Any]:
            named = {"task": task, "condition": condition, "modalities": sensors.split(), "cut": cut}
            return named | {"clips": 1, "scores": scores, "rivals": [], "seeds": []}

        rows = [
            row("vos", "night", "rgb thermal", j=0.7),
            row("vos", "night", "rgb", j=0.2),
            row("vos", "day", "rgb thermal", j=0.8, late_j=0.8),
            row("vos", "day", "rgb thermal", "rgb", j=0.6, late_j=0.4),
            row("mots", "twins", "rgb", id_switches=10, true_instances=90),
            row("mots", "twins", "rgb thermal", id_switches=4, true_instances=90),
            row("mots", "twins", "rgb depth", id_switches=5, true_instances=90),
        ]
        found = findings(rows, [{"least": 0.04, "selections": 9}, {"least": 0.0, "selections": 0}])
        assert found["night"]["gain"] == pytest.approx(0.5)
        assert found["cuts"][0]["kept"] == pytest.approx(0.75)
        assert found["cuts"][0]["late_kept"] == pytest.approx(0.5)
        assert [each["share_of_rgb_alone"] for each in found["twins"]] == [1.0, 0.4, 0.5]
        met = {bar["text"]: bar["met"] for bar in bars(rows, found)}
        assert met["night, J gained by thermal"] is True
        assert met["twins, id switches with thermal over RGB alone"] is True
        assert met["twins, id switches with depth over RGB alone"] is False
        assert met["day, rgb cut: J kept from there on"] is False
        assert met["day, thermal cut: J kept from there on"] is None
        assert met["least share of an expert"] is False
        assert met["day, SOT success_auc"] is None

    def test_ours_is_judged_by_the_better_baseline(self):
        def scores(hota: float) -> dict[str, float]:
            return dict.fromkeys(("det_a", "ass_a", "id_f1", "mota", "id_switches"), 0.5) | {"hota": hota}

        named = {"task": "mots", "condition": "twins", "modalities": ["rgb", "thermal"], "cut": None}
        rivals = [{"name": "one", "scores": scores(0.6)}, {"name": "two", "scores": scores(0.72)}]
        rows = [
            named | {"scores": scores(0.8), "rivals": rivals},
            named | {"condition": "occlusion", "scores": scores(0.7), "rivals": rivals},
        ]
        found = findings(rows, [])
        assert [row["association"] for row in found["association"]] == ["ours", "one", "two"] * 2
        judged = {bar["text"]: bar for bar in bars(rows, found)}
        assert judged["twins, HOTA over the better ByteTrack"]["value"] == pytest.approx(0.08)
        assert judged["occlusion, HOTA over the better ByteTrack"]["met"] is False
        judged = {bar["text"]: bar for bar in bars(rows[:1], findings(rows[:1], []))}
        assert judged["occlusion, HOTA over the better ByteTrack"]["met"] is None

    def test_one_row_is_found_by_all_that_names_it(self, report):
        whole, cut = (find(report["cases"], "vos", "day", ("rgb", "thermal"), cut=name) for name in (None, "rgb"))
        assert whole is not None
        assert cut is not None
        assert (whole["cut"], cut["cut"]) == (None, "rgb")
        assert find(report["cases"], "vos", "day", ("rgb", "thermal")) is whole
        assert find(report["cases"], "sot", "twins", ("rgb",)) is None

    def test_a_row_of_the_command_is_one_case_or_those_of_a_suite(self):
        assert cases_of("vos", "rgb,thermal", "night") == [Case("vos", "night")]
        assert [case.condition for case in cases_of("mot", "rgb", "mixed")] == list(MIXED)
