"""A Space's front matter: what the Hub accepts, and that every problem is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.registry import ROOT
from core.spaces.card_text import split_card
from core.spaces.front_matter import SpaceCard, check_space, is_one_emoji, space_problems
from core.spaces.hub_terms import COLOURS, hardware_names
from core.spaces.requirements import required_versions

GOOD: dict[str, Any] = {
    "title": "Tracking",
    "emoji": "🎯",
    "colorFrom": "green",
    "colorTo": "gray",
    "sdk": "gradio",
    "sdk_version": "6.31.0",
    "python_version": "3.12",
    "app_file": "app.py",
    "short_description": "One tracker",
    "models": ["someone/sata-tiny"],
    "tags": ["tracking", "arxiv:2511.19475"],
    "suggested_hardware": "cpu-basic",
    "license": "apache-2.0",
}


def test_a_good_card_has_no_problems() -> None:
    assert space_problems(GOOD, files={"app.py"}, gradio=">=6.28,<7") == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"title": None}, "title is missing"),
        ({"title": 12}, "write it in quotes"),
        ({"emoji": "🎯🎯"}, "exactly one emoji"),
        ({"emoji": "T"}, "exactly one emoji"),
        ({"colorFrom": "teal"}, "use one of red"),
        ({"sdk": "streamlit"}, "use one of gradio"),
        ({"sdk_version": 6.31}, "in full, such as"),
        ({"sdk_version": "5.9.1"}, "needs gradio>=6.28,<7"),
        ({"python_version": 3.1}, 'as "3.12"'),
        ({"app_file": "main.py"}, "no such file"),
        ({"app_file": "../app.py"}, "inside the Space"),
        ({"short_description": "x" * 61}, "61 characters, limit 60"),
        ({"models": ["sata-tiny"]}, "write owner/name"),
        ({"models": ["a/b/c"]}, "write owner/name"),
        ({"datasets": "someone/.."}, "write owner/name"),
        ({"suggested_hardware": "cpu-basics"}, "did you mean cpu-basic"),
        ({"hardware": "t4-small"}, "write suggested_hardware"),
        ({"colourFrom": "red"}, "did you mean colorFrom"),
        ({"tags": ["a", "a"]}, "name each once"),
        ({"tags": ["arxiv:25"]}, "write arxiv:2511.12345"),
        ({"license": "apache2"}, "license is 'apache2'"),
        ({"license": "other"}, "add license_name"),
        ({"pinned": "yes"}, "true or false"),
        ({"startup_duration_timeout": "30"}, "30m or 1h"),
        ({"preload_from_hub": ["gpt2"]}, "write owner/name"),
        ({"preload_from_hub": ["a/b c d e"]}, "a commit"),
    ],
)
def test_each_problem_is_named_alone(changes: dict[str, Any], said: str) -> None:
    problems = space_problems(GOOD | changes, files={"app.py"}, gradio=">=6.28,<7")
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(InputError) as caught:
        SpaceCard.from_text("---\nemoji: X\nsdk: gradio\ncolorFrom: teal\n---\n")
    message = str(caught.value)
    for name in ("title is missing", "colorTo is missing", "sdk_version is missing", "emoji is 'X'", "colorFrom is"):
        assert name in message


@pytest.mark.parametrize("text", ["# No front matter", "---\n- a list\n---\n", "---\na: [\n---\n", ""])
def test_a_readme_without_a_readable_block_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="front matter"):
        SpaceCard.from_text(text)


@pytest.mark.parametrize("emoji", ["🎻", "👨‍👩‍👧", "🇩🇪", "1️⃣", "👍🏽", "↔️", "⚖️", "🕹️"])
def test_one_emoji_is_one_however_it_is_made(emoji: str) -> None:
    assert is_one_emoji(emoji)


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Z", "Cc"]), max_size=4))
def test_text_is_no_emoji(text: str) -> None:
    assert not is_one_emoji(text)


words = st.text(alphabet=st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=20)


@settings(max_examples=40)
@given(
    title=st.text(alphabet=st.characters(categories=["L", "N", "P", "S"], include_characters=" "), min_size=1),
    line=st.text(alphabet=st.characters(categories=["L", "N", "P"], include_characters=" :#'\"-"), max_size=60),
    colours=st.tuples(st.sampled_from(COLOURS), st.sampled_from(COLOURS)),
    hardware=st.sampled_from(hardware_names()),
    tags=st.lists(words, unique=True, max_size=4),
)
def test_a_card_that_is_written_is_read_back_the_same(
    title: str, line: str, colours: tuple[str, str], hardware: str, tags: list[str]
) -> None:
    card = SpaceCard(
        title=title,
        emoji="🎻",
        color_from=colours[0],
        color_to=colours[1],
        sdk_version="6.31.0",
        python_version="3.12",
        short_description=line,
        suggested_hardware=hardware,
        tags=tuple(tags),
    )
    assert SpaceCard.from_text(card.to_text("# Body")) == card


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_whatever_a_card_says_is_judged_and_never_a_crash(changes: dict[str, Any]) -> None:
    assert all(isinstance(problem, str) for problem in space_problems(GOOD | changes, files=(), gradio=">=6"))


def test_the_repository_s_own_readme_is_a_space_s() -> None:
    check_space(ROOT, gradio=required_versions(ROOT, "gradio"))


def test_a_folder_without_a_readme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no README"):
        check_space(tmp_path)


def test_the_text_under_the_front_matter_stays_as_it_is() -> None:
    document, body = split_card("---\ntitle: A\n---\n\n# A\n---\nb: c\n")
    assert (document, body) == ({"title": "A"}, "\n# A\n---\nb: c\n")
