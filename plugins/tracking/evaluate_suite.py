"""The whole table of the card: which cases it takes, what they show, and the project's bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .conditions import MIXED
from .evaluate_run import Case, Outcome
from .evaluate_scores import figures, pooled
from .results import Task

PAIR = ("rgb", "thermal")
RGB_ALONE = ("rgb",)
OTHER_PAIRS = (("rgb", "depth"), ("rgb", "event"))
TWIN_PAIRS = (PAIR, ("rgb", "depth"))
CROWDED = ("twins", "occlusion")  # where association is hard
TASKS_WITH_MASKS: tuple[Task, ...] = ("vos", "mots")

DAY_BARS = (("vos", "j_and_f", 0.75), ("sot", "success_auc", 0.68), ("mots", "hota", 0.75), ("mots", "id_f1", 0.80))
MIXED_BARS = (("vos", "j", 0.65), ("mots", "hota", 0.75), ("mots", "ass_a", 0.75))
NIGHT_GAIN, TWIN_SWITCHES, KEPT_AFTER_CUT, LEAST_EXPERT = 0.30, 0.5, 0.85, 0.05

Row = dict[str, Any]


def suite_cases() -> list[Case]:
    """Every case of the table, once."""
    cases = [Case(task, condition, PAIR) for condition in MIXED for task in TASKS_WITH_MASKS]
    cases += [Case("sot", "day", PAIR), Case("mot", "day", PAIR)]
    cases += [Case(task, "day", sensors) for sensors in (RGB_ALONE, *OTHER_PAIRS) for task in TASKS_WITH_MASKS]
    cases += [Case("vos", "day", PAIR, cut=sensor) for sensor in PAIR]
    cases += [Case(task, "night", sensors) for sensors in (PAIR, RGB_ALONE) for task in TASKS_WITH_MASKS]
    cases += [Case("mots", "twins", sensors) for sensors in (RGB_ALONE, ("rgb", "depth"))]
    return cases


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """What each case came to, and by seed: JSON-able."""
    return [_row(outcome.case.named(), outcome.scores, outcome.rivals) for outcome in outcomes]


def mixed_rows(outcomes: Sequence[Outcome], name: str, members: Sequence[str]) -> list[Row]:
    """Rows of several conditions taken together, where every one of them was run in the same way."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.case.condition in members:
            groups.setdefault(str(outcome.case.named() | {"condition": name}), []).append(outcome)
    whole = [group for group in groups.values() if {outcome.case.condition for outcome in group} == set(members)]
    return [_mixed_row(group, name) for group in whole]


def _mixed_row(group: Sequence[Outcome], name: str) -> Row:
    """Outcomes of one way of tracking as one row; what was measured by seed stands in their own rows."""
    parts = [scores for outcome in group for scores in outcome.scores.values()]
    rivals = dict.fromkeys(rival for outcome in group for rival in outcome.rivals)
    return group[0].case.named() | {
        "condition": name,
        "clips": len(parts),
        "scores": figures(pooled(parts)),
        "rivals": [
            {"name": rival, "scores": figures(pooled(own for each in group for own in each.rivals[rival].values()))}
            for rival in rivals
        ],
        "seeds": [],
    }


def _row(named: Row, scores: dict[int, Any], rivals: dict[str, dict[int, Any]]) -> Row:
    return named | {
        "clips": len(scores),
        "scores": figures(pooled(scores.values())),
        "rivals": [{"name": name, "scores": figures(pooled(own.values()))} for name, own in rivals.items()],
        "seeds": [{"seed": seed} | figures(own) for seed, own in scores.items()],
    }


def find(rows: Sequence[Row], task: str, condition: str, modalities: Sequence[str], **more: Any) -> Row | None:
    """The row of a case; nothing `cut` unless given."""
    wanted = {"cut": None} | more
    wanted |= {"task": task, "condition": condition, "modalities": list(modalities)}
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def figure(row: Row | None, name: str) -> float | None:
    """One figure of a row; None where it was not measured."""
    return None if row is None else row["scores"].get(name)


def findings(rows: Sequence[Row], experts: Sequence[Row]) -> dict[str, Any]:
    """What the rows say when they are put beside each other; parts that were not measured are left out."""
    found = {
        "night": _night(rows),
        "twins": list(_twins(rows)),
        "cuts": list(_cuts(rows)),
        "association": list(_association(rows)),
        "least_expert_share": min((row["least"] for row in experts if row["selections"]), default=None),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _night(rows: Sequence[Row]) -> Row | None:
    """Night: J with thermal, without, and the difference."""
    pair, alone = (figure(find(rows, "vos", "night", sensors), "j") for sensors in (PAIR, RGB_ALONE))
    if pair is None or alone is None:
        return None
    return {"modalities": list(PAIR), "j": pair, "j_rgb_alone": alone, "gain": pair - alone}


def _twins(rows: Sequence[Row]) -> Iterator[Row]:
    """Id switches among twins, and their share of those with RGB alone, if there were any."""
    alone = figure(find(rows, "mots", "twins", RGB_ALONE), "id_switches")
    for sensors in (RGB_ALONE, *TWIN_PAIRS):
        row = find(rows, "mots", "twins", sensors)
        if row is None or alone is None:
            continue
        switches = row["scores"]["id_switches"]
        yield {
            "modalities": list(sensors),
            "id_switches": switches,
            "true_instances": row["scores"]["true_instances"],
            "share_of_rgb_alone": switches / alone if alone else None,
        }


def _cuts(rows: Sequence[Row]) -> Iterator[Row]:
    """J kept when a sensor goes off in the middle: of the whole clip, and of the part without it."""
    for row in rows:
        if row["cut"] is None:
            continue
        whole = find(rows, row["task"], row["condition"], row["modalities"])
        j, late = (figure(row, name) for name in ("j", "late_j"))
        j_uncut, late_uncut = (figure(whole, name) for name in ("j", "late_j"))
        if j is None or late is None or not j_uncut or not late_uncut:
            continue
        yield {
            "condition": row["condition"],
            "modalities": row["modalities"],
            "cut": row["cut"],
            "j": j,
            "kept": j / j_uncut,
            "late_j": late,
            "late_kept": late / late_uncut,
        }


def _association(rows: Sequence[Row]) -> Iterator[Row]:
    """Our matching and the baselines', on the same detections."""
    for row in (row for row in rows if row["rivals"]):
        ways = [("ours", row["scores"]), *((rival["name"], rival["scores"]) for rival in row["rivals"])]
        for name, scores in ways:
            kept = {key: scores[key] for key in ("hota", "det_a", "ass_a", "id_f1", "mota", "id_switches")}
            named = {key: row[key] for key in ("task", "condition", "modalities", "cut")}
            yield named | {"association": name} | kept


def bars(rows: Sequence[Row], found: dict[str, Any]) -> list[Row]:
    """The project's bars; `met` is None for one that was not measured."""
    made = [
        _bar(f"day, {task.upper()} {name}", figure(find(rows, task, "day", PAIR), name), "least", bar)
        for task, name, bar in DAY_BARS
    ]
    made += [
        _bar(f"mixed, {task.upper()} {name}", figure(find(rows, task, "mixed", PAIR), name), "least", bar)
        for task, name, bar in MIXED_BARS
    ]
    made.append(_bar("night, J gained by thermal", found.get("night", {}).get("gain"), "least", NIGHT_GAIN))
    shares = {tuple(row["modalities"]): row["share_of_rgb_alone"] for row in found.get("twins", [])}
    made += [
        _bar(f"twins, id switches with {sensors[1]} over RGB alone", shares.get(sensors), "below", TWIN_SWITCHES)
        for sensors in TWIN_PAIRS
    ]
    kept = {row["cut"]: row["late_kept"] for row in found.get("cuts", []) if row["condition"] == "day"}
    made += [
        _bar(f"day, {sensor} cut: J kept from there on", kept.get(sensor), "least", KEPT_AFTER_CUT) for sensor in PAIR
    ]
    made += [_rival_bar(condition, found.get("association", [])) for condition in CROWDED]
    made.append(_bar("least share of an expert", found.get("least_expert_share"), "least", LEAST_EXPERT))
    return made


def _rival_bar(condition: str, association: Sequence[Row]) -> Row:
    """HOTA above that of the better baseline."""
    hotas = {
        row["association"]: row["hota"]
        for row in association
        if row["condition"] == condition and row["task"] == "mots" and row["modalities"] == list(PAIR)
    }
    own = hotas.pop("ours", None)
    gain = None if own is None or not hotas else own - max(hotas.values())
    return _bar(f"{condition}, HOTA over the better ByteTrack", gain, "above", 0.0)


def _bar(text: str, value: float | None, side: str, bar: float) -> Row:
    """`side` is "least", "above" or "below"."""
    met = None
    if value is not None:
        met = {"least": value >= bar, "above": value > bar, "below": value < bar}[side]
    return {"text": text, "value": value, "side": side, "bar": bar, "met": met}
