import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.jsonfile import to_plain, write_json
from core.runs import (
    RunRecord,
    Stopwatch,
    build_run_record,
    collect_versions,
    quartet_version,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

PIPELINE_RUN = {
    "params": {"method": "broja", "tol": 1e-9},
    "device": "cpu",
    "seed": 7,
    "timings": {"solve": 0.5},
    "peak_memory_bytes": 1000,
    "attention": {"backend": "sdpa", "reason": "the only one on a CPU"},
    "solver": "newton",
}


@given(
    params=st.dictionaries(st.text(), json_values, max_size=4),
    seed=st.none() | st.integers(),
    timings=st.dictionaries(st.text(), st.floats(min_value=0, max_value=1e6), max_size=3),
    command=st.text(),
)
def test_a_record_comes_back_from_json_as_it_was(params, seed, timings, command):
    record = RunRecord(plugin="toy", params=params, device="cpu", seed=seed, timings=timings, command=command)
    assert RunRecord.from_json(record.to_json()) == record


def test_a_pipelines_run_is_merged_and_what_is_left_is_kept_as_details():
    record = build_run_record("attribution", PIPELINE_RUN, checkpoint="me/repo", revision="abc", command="run()")
    assert record.params == {"method": "broja", "tol": 1e-9}
    assert (record.seed, record.device, record.peak_memory_bytes) == (7, "cpu", 1000)
    assert record.attention == {"backend": "sdpa", "reason": "the only one on a CPU"}
    assert record.details == {"solver": "newton"}
    assert (record.checkpoint, record.revision, record.command) == ("me/repo", "abc", "run()")


def test_a_checkpoint_that_the_pipeline_itself_reports_is_used():
    record = build_run_record("toy", PIPELINE_RUN | {"checkpoint": "its/own", "revision": "def"})
    assert (record.checkpoint, record.revision) == ("its/own", "def")
    assert "checkpoint" not in record.details


def test_a_run_that_does_not_say_its_device_is_refused():
    with pytest.raises(InputError, match="lacks device"):
        build_run_record("toy", {"params": {}})


def test_a_record_names_the_versions_it_was_made_with():
    record = build_run_record("toy", PIPELINE_RUN)
    assert record.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record.versions["numpy"] == np.__version__
    assert record.quartet_version == quartet_version() != "unknown"


def test_packages_that_are_not_installed_are_left_out_of_the_versions():
    assert "a-package-nobody-has" not in collect_versions(("a-package-nobody-has", "numpy"))


def test_the_start_is_recorded_in_utc():
    started = datetime.fromisoformat(build_run_record("toy", PIPELINE_RUN, started=0.0).started)
    assert started.utcoffset() == timedelta(0)
    assert started.timestamp() == 0.0


def test_a_record_is_written_into_a_folder_as_run_json_with_nothing_beside_it(tmp_path):
    record = build_run_record("toy", PIPELINE_RUN)
    assert record.write(tmp_path) == tmp_path / "run.json"
    assert RunRecord.from_json((tmp_path / "run.json").read_bytes()) == record
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "{}", '{"plugin": "toy"}', b"\xff\xfe\x00"])
def test_what_is_not_a_record_is_refused_in_words(text):
    with pytest.raises(InputError, match="not a run record"):
        RunRecord.from_json(text)


def test_fields_of_a_newer_version_do_not_spoil_a_record():
    document = json.loads(build_run_record("toy", PIPELINE_RUN).to_json()) | {"invented_later": 1}
    assert RunRecord.from_json(json.dumps(document)).seed == 7


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "run.json"
    write_json(target, {"old": True})
    with pytest.raises(TypeError, match="no JSON form"):
        write_json(target, {"new": object()})
    assert json.loads(target.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [target]


def test_arrays_paths_and_dataclasses_have_a_plain_form_and_nan_is_none():
    @dataclass
    class Point:
        x: float
        where: Path

    value = {
        1: np.float64("nan"),
        "a": np.arange(3),
        "p": Point(float("inf"), Path("a/b")),
        "s": {3, 1},
        "t": (True,),
    }
    plain = to_plain(value)
    assert plain == {"1": None, "a": [0, 1, 2], "p": {"x": None, "where": "a/b"}, "s": [1, 3], "t": [True]}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_stopwatch_adds_up_stages_and_counts_those_that_raise():
    watch = Stopwatch()

    def stumble():
        time.sleep(0.02)
        raise InterruptedError

    for _ in range(2):
        with watch.stage("load"):
            time.sleep(0.02)
    with pytest.raises(InterruptedError), watch.stage("solve"):
        stumble()
    assert list(watch.timings) == ["load", "solve"]
    assert 0.04 <= watch.timings["load"] < 1
    assert 0.02 <= watch.timings["solve"] < 1
    assert watch.total == sum(watch.timings.values())


MEASURE = """
from core.runs import peak_memory, reset_peak_memory

small = peak_memory()
block = b"x" * 2**28
large = peak_memory()
del block
print(small, large, int(reset_peak_memory()), peak_memory())
"""


@pytest.fixture(scope="module")
def peaks():
    """Bytes before and with 256 MiB in use, whether a reset worked, and bytes after it, of a new process."""
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, output.split()))


def test_peak_memory_is_in_bytes_and_sees_an_allocation(peaks):
    small, large, _, _ = peaks
    assert 2**22 < small < 2**28
    assert 2**28 - 2**24 < large - small < 2**28 + 2**26


def test_after_a_reset_the_peak_is_that_of_the_run_alone(peaks):
    _, large, was_reset, after = peaks
    if was_reset:
        assert after < large - 2**27
    else:
        assert after >= large
