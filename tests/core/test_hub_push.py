"""Publishing on a Hub of this machine: one commit or none, clear words for every failure, and a safe second try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, snapshot_download
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from core.errors import InputError, UnavailableError
from core.hub.bundle import RepositoryFile, repository_files
from core.hub.cli import app
from core.hub.push import Pushed, Target, plan, push, push_files

from .hub_server import LARGE, Fault, HubServer, serving

CARD = b"---\nlicense: apache-2.0\n---\n"
FILES = (
    RepositoryFile(".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"),
    RepositoryFile("README.md", CARD),
    RepositoryFile("empty/__init__.py", b""),
    RepositoryFile("model.safetensors", b"weights" * 10),
    RepositoryFile("table.json", b"[" + b"0," * LARGE + b"0]"),
)
ANN = "token-of-ann"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A fresh server that this process's huggingface_hub takes for the Hub, and no token and no Xet around."""
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its own retries
        yield server


def publish(files=FILES, repo_id: str = "ann/tiny", *, token: str | None = ANN, **options: Any) -> Pushed:
    told = {name: options.pop(name) for name in ("may_delete",) if name in options}
    return push_files(files, Target(repo_id=repo_id, **options), message="Publish", token=token, **told)


def held(hub: HubServer, repo_id: str = "ann/tiny", kind: str = "model") -> dict[str, bytes]:
    return {path: blob.content for path, blob in hub.repositories[kind, repo_id].head.files.items()}


def written(hub: HubServer) -> list[str]:
    """The messages of all commits that were made by a push."""
    return [commit.message for commit in hub.model("ann/tiny").commits[1:]]


class TestPushing:
    def test_what_is_pushed_is_what_the_repository_holds(self, hub):
        pushed = publish()
        assert held(hub) == {file.path: file.content for file in FILES}
        assert pushed.commit == hub.model("ann/tiny").head.oid
        assert pushed.changed == tuple(file.path for file in FILES)
        assert [blob.large for _, blob in sorted(hub.model("ann/tiny").head.files.items())] == [
            False,
            False,
            False,
            True,
            True,
        ]

    def test_all_files_come_in_one_commit_and_a_second_push_makes_none(self, hub):
        first = publish(tag="v1")
        second = publish(tag="v1")
        assert written(hub) == ["Publish"]
        assert (second.committed, second.commit, second.tag) == (False, first.commit, "v1")

    def test_only_what_changed_is_sent(self, hub):
        publish()
        before = len(hub.requests)
        changed = RepositoryFile("README.md", CARD + b"More.\n")
        pushed = publish([changed if file.path == "README.md" else file for file in FILES])
        assert pushed.changed == ("README.md",)
        assert held(hub)["README.md"] == changed.content
        assert not [line for line in hub.requests[before:] if "lfs" in line]

    def test_files_that_the_checkpoint_lacks_go_only_where_that_is_allowed(self, hub):
        publish()
        with pytest.raises(InputError, match=r"holds files that are not among those .*\(table.json\).*--delete-others"):
            publish(FILES[:-1])
        assert "table.json" in held(hub)
        assert publish(FILES[:-1], may_delete=True).deleted == ("table.json",)
        assert held(hub) == {file.path: file.content for file in FILES[:-1]}

    @pytest.mark.parametrize("visibility", ["public", "private"])
    def test_the_visibility_arrives(self, hub, visibility):
        publish(visibility=visibility)
        assert hub.model("ann/tiny").private is (visibility == "private")

    def test_what_ought_to_be_private_is_not_pushed_to_a_public_repository(self, hub):
        publish(FILES[:2])
        with pytest.raises(InputError, match="is public: make it private"):
            publish(visibility="private")
        assert len(held(hub)) == 2

    def test_a_space_is_made_with_its_sdk(self, hub):
        publish(kind="space", sdk="gradio")
        assert held(hub, kind="space") == {file.path: file.content for file in FILES}
        assert hub.repositories["space", "ann/tiny"].sdk == "gradio"
        assert not publish(kind="space", sdk="gradio").committed

    def test_a_checkpoint_of_ours_arrives_whole(self, hub, tmp_path):
        files = repository_files("ui-action")
        push("ui-action", Target(repo_id="ann/ui", tag="v1"), token=ANN)
        found = Path(snapshot_download("ann/ui", revision="v1", local_dir=tmp_path))
        assert {file.path: (found / file.path).read_bytes() for file in files} == {f.path: f.content for f in files}


NAMES = st.sampled_from(["a.txt", "sub/b.json", "sub/deep/c.md", "d.safetensors", "empty/__init__.py"])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(NAMES, st.binary(max_size=8), min_size=1), min_size=1, max_size=3))
def test_after_any_pushes_a_repository_holds_the_last_ones_files_and_has_a_commit_for_every_change(hub, states):
    hub.repositories.clear()
    before: dict[str, bytes] | None = None
    changes = 0
    for state in states:
        done = publish([RepositoryFile(path, content) for path, content in state.items()], may_delete=True)
        assert held(hub) == state
        assert done.committed is (state != before)
        changes += state != before
        before = state
    assert len(written(hub)) == changes


class TestTags:
    def test_a_tag_pins_its_commit_for_good(self, hub, tmp_path):
        publish(tag="v1")
        changed = [RepositoryFile(file.path, CARD + b"2") if file.path == "README.md" else file for file in FILES]
        second = publish(changed, tag="v2")
        for revision, content in (
            ("v1", CARD),
            ("v2", CARD + b"2"),
            (second.commit, CARD + b"2"),
            ("main", CARD + b"2"),
        ):
            folder = snapshot_download("ann/tiny", revision=revision, cache_dir=tmp_path, allow_patterns=["*.md"])
            assert Path(folder, "README.md").read_bytes() == content

    def test_a_tag_of_other_files_is_kept_and_nothing_is_pushed(self, hub):
        publish(tag="v1")
        with pytest.raises(InputError, match=r"has a tag 'v1' already.*choose another tag"):
            publish([*FILES, RepositoryFile("new.txt", b"")], tag="v1")
        assert written(hub) == ["Publish"]

    def test_a_tag_that_somebody_sets_meanwhile_is_told(self, hub):
        hub.faults.append(Fault("/tag/", status=409))
        with pytest.raises(InputError, match="has that tag or name already"):
            publish(tag="v1")
        assert publish(tag="v1").tag == "v1"
        assert written(hub) == ["Publish"]


class TestFailures:
    def test_without_a_token_nothing_is_contacted(self, hub):
        with pytest.raises(UnavailableError, match=r"There is no Hub token. Run 'hf auth login', or set HF_TOKEN"):
            publish(token=None)
        assert hub.requests == []

    def test_offline_nothing_is_contacted(self, hub, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE=1 forbids the network"):
            publish()
        assert hub.requests == []

    def test_a_card_with_a_field_missing_or_wrong_is_refused_before_anything_is_sent(self, hub, monkeypatch):
        bad = RepositoryFile("README.md", b"---\npipeline_tag: no-such-task\n---\n")
        monkeypatch.setattr("core.hub.push.repository_files", lambda slug: (bad,))
        with pytest.raises(InputError, match=r"(?s)license.*no-such-task"):
            push("tracking", Target(repo_id="ann/tiny"), token=ANN)
        with pytest.raises(InputError, match="no-such-task"):
            plan("tracking", Target(repo_id="ann/tiny"))
        assert hub.requests == []

    @pytest.mark.parametrize("there", [False, True])
    def test_a_wrong_token(self, hub, there):
        if there:
            hub.add("ann/tiny", {"README.md": CARD})
        with pytest.raises(UnavailableError, match=r"The Hub does not know this token. Run 'hf auth login'"):
            publish(token="wrong")

    @pytest.mark.parametrize("there", [False, True])
    def test_no_right_to_write(self, hub, there):
        if there:
            publish(FILES[:2])
        with pytest.raises(UnavailableError, match="This token may not write to ann/tiny"):
            publish(token="token-of-bob")
        assert not there or len(held(hub)) == 2

    def test_a_repository_that_goes_away(self, hub):
        hub.faults.append(Fault("/preupload/", status=404, code="RepoNotFound"))
        with pytest.raises(InputError, match="The Hub has no model 'ann/tiny' that this token can see"):
            publish()

    def test_somebody_else_commits_meanwhile(self, hub):
        hub.faults.append(Fault("/commit/", status=412))
        with pytest.raises(UnavailableError, match="Somebody else changed ann/tiny meanwhile"):
            publish()

    def test_a_card_that_the_hub_refuses(self, hub):
        with pytest.raises(InputError, match=r"The Hub refuses the card .* there is no metadata"):
            publish([RepositoryFile(".gitattributes", b""), RepositoryFile("README.md", b"no metadata")])

    def test_a_hub_that_fails_is_told_with_its_answer(self, hub):
        hub.faults.append(Fault("/commit/", status=507))
        with pytest.raises(UnavailableError, match=r"The Hub answered 507.*run the same command again"):
            publish()

    @pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("number", range(11))
    def test_wherever_the_connection_drops_nothing_is_half_published_and_a_second_try_ends_it(self, hub, number, late):
        hub.faults.append(Fault(after=number, times=1000, late=late))
        with pytest.raises(UnavailableError, match=r"The connection to the Hub broke.*run the same command again"):
            publish(tag="v1")
        whole = {file.path: file.content for file in FILES}
        for repository in hub.repositories.values():
            assert set(repository.head.files) in ({".gitattributes"}, set(whole))
        hub.faults.clear()
        publish(tag="v1")
        assert held(hub) == whole
        assert written(hub) == ["Publish"]
        assert hub.model("ann/tiny").tags == {"v1": hub.model("ann/tiny").head.oid}

    def test_these_are_all_the_requests_of_a_push(self, hub):
        publish(tag="v1")
        assert len(hub.requests) == 11  # two of them to store large files, side by side


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo_id": "tiny"}, "names no owner: write 'owner/tiny'"),
        ({"repo_id": "a/b/c"}, "is not a Hub id"),
        ({"repo_id": "../x"}, "is not a Hub id"),
        ({"tag": "../main"}, "cannot be a tag"),
        ({"tag": "a b"}, "cannot be a tag"),
        ({"kind": "space"}, "A Space needs an sdk"),
        ({"sdk": "gradio"}, "A Space needs an sdk"),
    ],
)
def test_a_target_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Target(**({"repo_id": "ann/tiny"} | options))


class TestCommandLine:
    def test_a_dry_run_lists_every_file_and_contacts_nothing(self, hub):
        done = CliRunner().invoke(app, ["push", "tracking", "ann/sata", "--dry-run", "--private", "--tag", "v1"])
        assert done.exit_code == 0, done.output
        for file in plan("tracking", Target(repo_id="ann/sata")).files:
            assert f"{file.size:,}  {file.path}\n" in done.output
        assert "model ann/sata (private where it has to be made): one commit, tagged 'v1'" in done.output
        assert hub.requests == []
        assert hub.repositories == {}

    def test_pushing_twice_says_so(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", ANN)
        first, second = (CliRunner().invoke(app, ["push", "ui-action", "ann/tiny", "--tag", "v1"]) for _ in range(2))
        assert "files pushed" in first.output
        assert "nothing to do" in second.output
        assert written(hub) == ["Publish ui-action"]

    def test_what_went_wrong_is_a_line_and_not_a_trace(self, hub):
        done = CliRunner().invoke(app, ["push", "ui-action", "ann/tiny"])
        assert done.exit_code == 2
        assert (
            done.stderr
            == "error: There is no Hub token. Run 'hf auth login', or set HF_TOKEN to a token that may write.\n"
        )

    def test_a_bundle_is_written(self, tmp_path):
        done = CliRunner().invoke(app, ["bundle", "ui-action", str(tmp_path / "to")])
        assert done.exit_code == 0, done.output
        assert (tmp_path / "to" / "model.safetensors").is_file()
        again = CliRunner().invoke(app, ["bundle", "tracking", str(tmp_path / "to")])
        assert again.exit_code == 2
        assert "holds something else" in again.stderr
