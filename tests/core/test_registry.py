import gc
import importlib.metadata
import sys
import threading
import weakref
from typing import Any

import pytest

from core import registry
from core.errors import InputError, QuartetError, UnavailableError
from core.registry import PipelineCache, PluginSpec, describe_failure

VALID: dict[str, Any] = {
    "slug": "toy",
    "title": "Toy",
    "task": "toy-task",
    "summary": "Does nothing much.",
    "paper": "2511.00000",
    "pipeline": "toys.pipeline:ToyPipeline",
    "page": "toys.page:build_page",
    "checkpoint": None,
    "min_memory_gb": 0.5,
}

TOY_PLUGIN = """
from core.registry import PluginSpec

def spec(slug, checkpoint=None):
    return PluginSpec(
        slug=slug, title=slug, task="toy", summary="A toy.", paper="2511.00000",
        pipeline="toys.pipeline:ToyPipeline", page="toys.page:build_page",
        checkpoint=checkpoint, min_memory_gb=0,
    )

SPEC = spec("toy")
ANOTHER = spec("another", "toys/default")
BROKEN_PIPELINE = PluginSpec(
    slug="broken-pipeline", title="b", task="toy", summary="A toy.", paper="2511.00000",
    pipeline="toys.needs_more:Pipeline", page="toys.page:build_page", checkpoint=None, min_memory_gb=0,
)
NOT_A_SPEC = {"slug": "toy"}
"""

TOY_PIPELINE = """
import time

class ToyPipeline:
    made = 0

    def __init__(self, source=None, size=1):
        time.sleep(0.02)
        type(self).made += 1
        self.source, self.size = source, size

    @classmethod
    def from_pretrained(cls, source, **kwargs):
        if source == "toys/missing":
            raise OSError("no such checkpoint")
        return cls(source, **kwargs)
"""


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A package of real plugins on the path, some of which do not import; gives its pipeline class."""
    package = tmp_path / "toys"
    package.mkdir()
    files = {
        "__init__.py": "",
        "plugin.py": TOY_PLUGIN,
        "pipeline.py": TOY_PIPELINE,
        "needs_more.py": "import a_package_nobody_has",
        "wrong_syntax.py": "def broken(:",
        "quits.py": "raise SystemExit(3)",
        "bad_spec.py": TOY_PLUGIN + "\nSPEC = spec('Not A Slug')",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "IN_TREE", ("toys.plugin:SPEC", "toys.plugin:ANOTHER"))
    monkeypatch.delenv("QUARTET_PLUGINS", raising=False)
    monkeypatch.delenv("QUARTET_STRICT", raising=False)
    yield lambda: sys.modules["toys.pipeline"].ToyPipeline
    for name in [name for name in sys.modules if name.partition(".")[0] == "toys"]:
        del sys.modules[name]


@pytest.fixture
def entry_points(monkeypatch):
    """Installs entry points of the given names and values, for the length of a test."""

    def install(*pairs):
        group = registry.ENTRY_POINT_GROUP
        points = importlib.metadata.EntryPoints(
            importlib.metadata.EntryPoint(name, value, group) for name, value in pairs
        )
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: points.select(**wanted))

    return install


def failure_of(entry):
    assert entry.spec is None
    assert entry.failure is not None
    return entry.failure


def test_the_catalogue_of_this_suite_holds_attribution(monkeypatch):
    monkeypatch.delenv("QUARTET_PLUGINS", raising=False)
    assert "attribution" in [spec.slug for spec in registry.catalogue()]
    assert registry.find("attribution").paper == "2511.19470"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "Toy"),
        ("slug", "1toy"),
        ("slug", "toy_box"),
        ("slug", "toy-"),
        ("slug", "toy\n"),
        ("slug", ""),
        ("title", "  "),
        ("summary", ""),
        ("pipeline", "toys.pipeline"),
        ("pipeline", "toys/pipeline:Toy"),
        ("page", ":build_page"),
        ("page", "toys.page:"),
        ("min_memory_gb", -1.0),
        ("min_memory_gb", float("nan")),
        ("published", ("../secrets.py",)),
        ("published", ("folder/deeper/model.py",)),
    ],
)
def test_a_spec_with_an_unusable_field_is_refused(field, value):
    PluginSpec(**VALID)
    with pytest.raises(InputError):
        PluginSpec(**{**VALID, field: value})


def test_the_catalogue_keeps_the_order_in_which_it_is_written(toys):
    assert [spec.slug for spec in registry.catalogue()] == ["toy", "another"]


@pytest.mark.parametrize(
    ("path", "reason", "fix"),
    [
        (
            "toys.needs_more:SPEC",
            "'a_package_nobody_has' is not installed",
            "pip install a_package_nobody_has",
        ),
        ("toys.nowhere:SPEC", "no module 'toys.nowhere'", "dotted path"),
        ("toys.wrong_syntax:SPEC", "SyntaxError", "import toys.wrong_syntax"),
        ("toys.quits:SPEC", "SystemExit", "import toys.quits"),
        ("toys.bad_spec:SPEC", "'Not A Slug'", "import toys.bad_spec"),
        ("toys.plugin:MISSING", "MISSING", "import toys.plugin"),
        ("toys.plugin:NOT_A_SPEC", "not a PluginSpec", "import toys.plugin"),
    ],
)
def test_a_plugin_that_fails_to_import_is_listed_with_reason_and_fix(toys, path, reason, fix):
    working, broken = registry.entries(("toys.plugin:SPEC", path))
    assert working.spec is not None
    assert reason in failure_of(broken).reason
    assert fix in failure_of(broken).how_to_fix


def test_a_failed_plugin_is_named_after_its_package(toys):
    (entry,) = registry.entries(("toys.no_such_thing.plugin:SPEC",))
    assert entry.slug == "no-such-thing"


def test_strict_mode_raises_what_the_plugin_raised(toys, monkeypatch):
    monkeypatch.setenv("QUARTET_STRICT", "1")
    with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):
        registry.entries(("toys.plugin:SPEC", "toys.needs_more:SPEC"))


def test_catalogue_and_find_leave_the_broken_plugin_out_but_explain_it(toys, monkeypatch):
    monkeypatch.setattr(registry, "IN_TREE", ("toys.plugin:SPEC", "toys.needs_more:SPEC"))
    assert [spec.slug for spec in registry.catalogue()] == ["toy"]
    with pytest.raises(UnavailableError, match="a_package_nobody_has"):
        registry.find("needs-more")


def test_an_unknown_slug_is_answered_with_the_known_ones(toys):
    with pytest.raises(InputError, match="choose one of toy, another"):
        registry.find("tracking")


def test_two_plugins_with_one_slug_are_an_error(toys):
    with pytest.raises(QuartetError, match="Two plugins call themselves 'toy'"):
        registry.entries(("toys.plugin:SPEC", "toys.plugin:SPEC"))


def test_an_installed_plugin_is_used_only_if_the_user_named_it(toys, entry_points, monkeypatch):
    monkeypatch.setattr(registry, "IN_TREE", ("toys.plugin:SPEC",))
    entry_points(("another", "toys.plugin:ANOTHER"), ("uninvited", "toys.quits:SPEC"))
    assert [entry.slug for entry in registry.entries()] == ["toy"]
    monkeypatch.setenv("QUARTET_PLUGINS", " another ,, another")
    assert [entry.slug for entry in registry.entries()] == ["toy", "another"]


def test_an_installed_plugin_cannot_take_the_slug_of_one_in_the_tree(toys, entry_points, monkeypatch):
    entry_points(("innocent", "toys.plugin:SPEC"))
    monkeypatch.setenv("QUARTET_PLUGINS", "innocent")
    with pytest.raises(QuartetError, match="'toy'"):
        registry.catalogue()


def test_an_installed_plugin_that_breaks_is_listed_under_its_name(toys, entry_points, monkeypatch):
    entry_points(("Noisy_Box", "toys.quits:SPEC"))
    monkeypatch.setenv("QUARTET_PLUGINS", "Noisy_Box")
    assert registry.entries()[-1].slug == "noisy-box"
    assert "SystemExit" in failure_of(registry.entries()[-1]).reason


def test_a_named_plugin_that_is_not_installed_says_so(toys, monkeypatch):
    monkeypatch.setenv("QUARTET_PLUGINS", "ghost")
    failure = failure_of(registry.entries()[-1])
    assert "'ghost'" in failure.reason
    assert "QUARTET_PLUGINS" in failure.how_to_fix


def test_two_packages_that_offer_one_name_are_not_chosen_between(toys, entry_points, monkeypatch):
    entry_points(("extra", "toys.plugin:SPEC"), ("extra", "toys.plugin:ANOTHER"))
    monkeypatch.setenv("QUARTET_PLUGINS", "extra")
    assert "Several installed packages" in failure_of(registry.entries()[-1]).reason


def test_load_object_follows_attributes_and_refuses_what_is_no_dotted_path(toys):
    assert registry.load_object("toys.pipeline:ToyPipeline.from_pretrained")("here").source == "here"
    with pytest.raises(InputError, match="module:attribute"):
        registry.load_object("os; import sys")


def test_a_pipeline_without_checkpoint_is_made_and_one_with_it_is_loaded(toys):
    assert registry.load_pipeline("toy", size=3).source is None
    assert registry.load_pipeline("toy", size=3).size == 3
    assert registry.load_pipeline("another").source == "toys/default"
    assert registry.load_pipeline("another", "my/own").source == "my/own"
    assert registry.load_pipeline("toy", "my/own", size=2).size == 2


def test_a_default_checkpoint_in_the_house_is_found_from_any_folder(toys, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    (tmp_path / "toys" / "default").mkdir(parents=True)
    assert registry.load_pipeline("another").source == str(tmp_path / "toys" / "default")


def test_a_pipeline_that_fails_to_import_is_unavailable_with_a_way_out(toys, monkeypatch):
    monkeypatch.setattr(registry, "IN_TREE", ("toys.plugin:BROKEN_PIPELINE",))
    with pytest.raises(UnavailableError, match="pip install a_package_nobody_has"):
        registry.load_pipeline("broken-pipeline")


def test_the_cache_loads_once_and_knows_the_default_checkpoint_by_its_name(toys):
    cache = PipelineCache(capacity=2)
    first = cache.get("another")
    assert cache.get("another", "toys/default") is first
    assert cache.get("another", size=2) is not first
    assert toys().made == 2


def test_many_threads_that_ask_at_once_share_one_load(toys):
    cache, start, got = PipelineCache(capacity=1), threading.Barrier(8), []

    def ask():
        start.wait()
        got.append(cache.get("toy"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert toys().made == 1


def test_the_least_recently_used_pipeline_is_dropped_and_its_memory_freed(toys):
    cache = PipelineCache(capacity=2)
    dropped = weakref.ref(cache.get("toy", size=1))
    cache.get("toy", size=2)
    kept = weakref.ref(cache.get("toy", size=2))
    cache.get("another")
    gc.collect()
    assert dropped() is None
    assert kept() is not None
    assert cache.loaded() == ("toy", "another")


def test_using_a_pipeline_keeps_it_longer(toys):
    cache = PipelineCache(capacity=2)
    first = cache.get("toy", size=1)
    cache.get("toy", size=2)
    cache.get("toy", size=1)
    cache.get("another")
    assert cache.get("toy", size=1) is first


def test_a_load_that_fails_raises_and_leaves_the_cache_usable(toys):
    cache = PipelineCache(capacity=1)
    with pytest.raises(OSError, match="no such checkpoint"):
        cache.get("another", "toys/missing")
    assert cache.get("another").source == "toys/default"


def test_eager_loads_all_at_start_and_never_drops_them(toys):
    cache = PipelineCache(capacity=1, policy="eager")
    cache.preload()
    assert cache.loaded() == ("toy", "another")
    first, second = cache.get("toy"), cache.get("another")
    for size in (2, 3, 4):
        cache.get("toy", size=size)
    assert toys().made == 5
    assert cache.get("toy") is first
    assert cache.get("another") is second
    assert len(cache.loaded()) == 3


def test_what_is_loaded_at_start_is_what_pages_ask_for_on_the_best_device(toys, monkeypatch):
    monkeypatch.setattr(registry, "_best_device", lambda: {"size": 2})
    cache = PipelineCache(capacity=1, policy="eager")
    cache.preload()
    made = toys().made
    assert cache.on_best_device("toy").size == 2
    assert toys().made == made


def test_eager_goes_on_past_a_plugin_that_fails_unless_strict(toys, monkeypatch):
    monkeypatch.setattr(registry, "IN_TREE", ("toys.plugin:BROKEN_PIPELINE", "toys.plugin:SPEC"))
    cache = PipelineCache(policy="eager")
    cache.preload()
    assert cache.loaded() == ("toy",)
    monkeypatch.setenv("QUARTET_STRICT", "1")
    with pytest.raises(UnavailableError):
        cache.preload()


def test_arguments_that_cannot_be_compared_are_refused(toys):
    with pytest.raises(InputError, match="plain values"):
        PipelineCache().get("toy", size=[1])


@pytest.mark.parametrize(
    ("environ", "policy", "capacity"),
    [
        ({}, "lazy", registry.DEFAULT_CAPACITY),
        ({"QUARTET_MAX_PIPELINES": "5"}, "lazy", 5),
        ({"SPACES_ZERO_GPU": "true"}, "eager", registry.DEFAULT_CAPACITY),
        ({"SPACES_ZERO_GPU": "true", "QUARTET_LOAD_POLICY": "lazy"}, "lazy", registry.DEFAULT_CAPACITY),
        ({"QUARTET_LOAD_POLICY": "eager"}, "eager", registry.DEFAULT_CAPACITY),
    ],
)
def test_the_environment_chooses_policy_and_capacity(environ, policy, capacity):
    cache = registry.cache_from_environment(environ)
    assert (cache.policy, cache.capacity) == (policy, capacity)


@pytest.mark.parametrize("environ", [{"QUARTET_LOAD_POLICY": "greedy"}, {"QUARTET_MAX_PIPELINES": "0"}])
def test_an_environment_that_makes_no_sense_is_refused_by_name(environ):
    (name,) = environ
    with pytest.raises(InputError, match=name):
        registry.cache_from_environment(environ)


def test_a_missing_part_of_an_installed_package_is_not_called_another_package() -> None:
    error = ModuleNotFoundError("No module named 'apps.charts'", name="apps.charts")
    failure = describe_failure(error, "apps.attribution:build_page")
    assert "'apps.charts'" in failure.reason
    assert "missing from its own package" in failure.reason
    assert "pip install" not in failure.how_to_fix
