"""The catalogue of techniques, and how their pipelines are loaded and kept.

Everything here is dotted paths: reading the catalogue imports no torch and no page.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from core.errors import InputError, QuartetError, UnavailableError

logger = logging.getLogger(__name__)

IN_TREE: tuple[str, ...] = (
    "plugins.sparse_video.plugin:SPEC",
    "plugins.tracking.plugin:SPEC",
    "plugins.attribution.plugin:SPEC",
    "plugins.ui_action.plugin:SPEC",
)
ROOT = Path(__file__).resolve().parent.parent
ENTRY_POINT_GROUP = "quartet.plugins"
DEFAULT_CAPACITY = 2

LoadPolicy = Literal["lazy", "eager"]

_SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_FILE_NAME = re.compile(r"([A-Za-z_]\w*/)?[A-Za-z_][\w-]*\.[a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """One technique as the suite sees it.

    Attributes:
        slug: its name in links and endpoints, lower case with single hyphens.
        title: its name on the tab.
        task: what kind of pipeline it is, in the Hub's spelling.
        summary: one sentence on what it does.
        question: the question that its users bring.
        paper: arXiv id.
        pipeline: dotted path of the pipeline class, "module:Class".
        page: dotted path of a function that returns a `gr.Blocks`.
        checkpoint: default repository or folder; None when the pipeline needs no weights.
        min_memory_gb: memory, in GB, below which the default checkpoint does not run.
        published: the files of the plugin's folder that are uploaded beside a checkpoint, as name.py or folder/name.py.
    """

    slug: str
    title: str
    task: str
    summary: str
    paper: str
    pipeline: str
    page: str
    checkpoint: str | None
    min_memory_gb: float
    published: tuple[str, ...] = ()
    question: str = ""

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.slug):
            raise InputError(f"slug {self.slug!r} is not usable in a link: use a-z, 0-9 and single hyphens.")
        for name in ("title", "task", "summary", "paper"):
            if not getattr(self, name).strip():
                raise InputError(f"{name} of plugin {self.slug!r} is empty: write one.")
        for name in ("pipeline", "page"):
            _require_dotted(getattr(self, name))
        if not self.min_memory_gb >= 0:
            raise InputError(f"min_memory_gb of plugin {self.slug!r} is {self.min_memory_gb}: give 0 or above.")
        for name in self.published:
            if not _FILE_NAME.fullmatch(name):
                raise InputError(f"published file {name!r} is neither name.py nor folder/name.py.")


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """Why a plugin is not available here, in one sentence each for the reason and the way out."""

    reason: str
    how_to_fix: str


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One line of the catalogue: exactly one of `spec` and `failure` is set."""

    slug: str
    spec: PluginSpec | None = None
    failure: PluginFailure | None = None


def catalogue() -> tuple[PluginSpec, ...]:
    """The techniques that can be used here, in the order of the tabs."""
    return tuple(entry.spec for entry in entries() if entry.spec is not None)


def entries(in_tree: Sequence[str] | None = None) -> tuple[CatalogueEntry, ...]:
    """Every technique of the catalogue; one whose spec fails to import carries its failure instead.

    `in_tree` defaults to `IN_TREE`; after it come the entry points that QUARTET_PLUGINS names. Two plugins
    with one slug raise QuartetError. With QUARTET_STRICT=1 an import failure is raised, not recorded.
    """
    found: dict[str, CatalogueEntry] = {}
    for slug, path, load in _sources(IN_TREE if in_tree is None else in_tree):
        entry = _entry(slug, path, load)
        if entry.slug in found:
            raise QuartetError(
                f"Two plugins call themselves {entry.slug!r}: rename one, or take it out of QUARTET_PLUGINS."
            )
        found[entry.slug] = entry
    return tuple(found.values())


def find(slug: str) -> PluginSpec:
    """The spec of one technique; InputError for an unknown slug, UnavailableError where the import failed."""
    known = entries()
    for entry in known:
        if entry.slug == slug and entry.spec is not None:
            return entry.spec
        if entry.slug == slug and entry.failure is not None:
            raise UnavailableError(entry.failure.reason, entry.failure.how_to_fix)
    names = ", ".join(entry.slug for entry in known)
    raise InputError(f"There is no technique {slug!r} here: choose one of {names}.")


def load_object(path: str) -> Any:
    """The object that "package.module:attribute" names; import errors pass through unchanged."""
    _require_dotted(path)
    module, _, attributes = path.partition(":")
    value = importlib.import_module(module)
    for name in attributes.split("."):
        value = getattr(value, name)
    return value


def load_pipeline(slug: str, checkpoint: str | os.PathLike[str] | None = None, **kwargs: Any) -> Any:
    """A new pipeline of one technique, from `checkpoint`, else its default, else without weights.

    Keyword arguments go to `from_pretrained`, or to the constructor where there is no checkpoint. An import
    that fails raises UnavailableError.
    """
    spec = find(slug)
    try:
        pipeline_class = load_object(spec.pipeline)
    except (ImportError, AttributeError) as error:
        failure = describe_failure(error, spec.pipeline)
        raise UnavailableError(failure.reason, failure.how_to_fix) from error
    source = _default_checkpoint(spec) if checkpoint is None else checkpoint
    return pipeline_class(**kwargs) if source is None else pipeline_class.from_pretrained(source, **kwargs)


def _default_checkpoint(spec: PluginSpec) -> str | None:
    """The technique's own checkpoint: a folder of the house from wherever the app was started, or a Hub id."""
    if spec.checkpoint is not None and (folder := ROOT / spec.checkpoint).is_dir():
        return str(folder)
    return spec.checkpoint


def describe_failure(error: BaseException, path: str) -> PluginFailure:
    """What to tell people about an error met while importing `path`, a dotted path or a plugin's name."""
    if isinstance(error, UnavailableError):
        return PluginFailure(error.reason, error.how_to_fix)
    module = path.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name:
        if module == error.name or module.startswith(f"{error.name}."):
            return PluginFailure(
                f"There is no module {error.name!r}, which the catalogue names.",
                "Check the dotted path in the catalogue, or install the package that brings it.",
            )
        if error.name.partition(".")[0] == module.partition(".")[0]:
            return PluginFailure(
                f"{module} needs the module {error.name!r}, which is missing from its own package.",
                "The installation is incomplete: install it again.",
            )
        return PluginFailure(
            f"The Python package that provides {error.name!r} is not installed.",
            f"Install it (often: pip install {error.name.partition('.')[0]}) and start the app again.",
        )
    return PluginFailure(
        f"{path} failed: {type(error).__name__}: {error}",
        f'Run: python -c "import {module}" to see where, repair it, and start the app again.',
    )


def strict() -> bool:
    """Whether QUARTET_STRICT asks for failures to be raised instead of shown."""
    return _truthy(os.environ.get("QUARTET_STRICT"))


class PipelineCache:
    """Loaded pipelines, at most `capacity` of them, the least recently used dropped first.

    "lazy" loads on first use. "eager" also keeps for good what `preload` loaded, as ZeroGPU needs: there,
    weights are placed once at start. A dropped pipeline stays usable for whoever still holds it.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY, policy: LoadPolicy = "lazy") -> None:
        if capacity < 1:
            raise InputError(f"A cache for {capacity} pipelines holds nothing: give 1 or more.")
        if policy not in ("lazy", "eager"):
            raise InputError(f"Load policy {policy!r} is unknown: use lazy or eager.")
        self.capacity = capacity
        self.policy = policy
        self._pinned: dict[tuple[Any, ...], Any] = {}
        self._recent: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._table = threading.Lock()
        self._loading = threading.RLock()  # one load at a time, so that memory never holds capacity + 1

    def get(self, slug: str, checkpoint: str | os.PathLike[str] | None = None, **kwargs: Any) -> Any:
        """The pipeline for these (hashable) arguments, loaded by `load_pipeline` if it is not here yet."""
        key = self._key(slug, checkpoint, kwargs)
        found = self._lookup(key)
        if found is not None:
            return found
        with self._loading:
            found = self._lookup(key)  # another thread may have loaded it while this one waited
            if found is None:
                self._make_room()
                found = load_pipeline(slug, checkpoint, **kwargs)
                with self._table:
                    self._recent[key] = found
            return found

    def on_best_device(self, slug: str, checkpoint: str | os.PathLike[str] | None = None) -> Any:
        """As `get`, on an accelerator where there is one; what pages use, and what `preload` loads."""
        return self.get(slug, checkpoint, **_best_device())

    def preload(self) -> None:
        """Load every technique's default, to stay; a failure is logged, or raised when strict."""
        where = _best_device()
        for spec in catalogue():
            key = self._key(spec.slug, None, where)
            with self._loading:
                if key in self._pinned:
                    continue
                try:
                    pipeline = load_pipeline(spec.slug, **where)
                except Exception:
                    if strict():
                        raise
                    logger.exception("%s could not be loaded at start; its page will say why", spec.slug)
                    continue
                with self._table:
                    self._pinned[key] = pipeline

    def loaded(self) -> tuple[str, ...]:
        """Slugs of what is in memory: first what stays, then from least to most recently used."""
        with self._table:
            return tuple(key[0] for key in (*self._pinned, *self._recent))

    def clear(self) -> None:
        """Drop everything."""
        with self._table:
            self._pinned.clear()
            self._recent.clear()
        _release_memory()

    def _key(self, slug: str, checkpoint: str | os.PathLike[str] | None, kwargs: dict[str, Any]) -> tuple[Any, ...]:
        source = find(slug).checkpoint if checkpoint is None else os.fspath(checkpoint)
        key = (slug, source, tuple(sorted(kwargs.items(), key=lambda item: item[0])))
        try:
            hash(key)
        except TypeError as error:
            raise InputError(f"Arguments of a kept pipeline must be plain values: {error}.") from error
        return key

    def _lookup(self, key: tuple[Any, ...]) -> Any:
        with self._table:
            if key in self._pinned:
                return self._pinned[key]
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key)

    def _make_room(self) -> None:
        with self._table:
            surplus = len(self._recent) - self.capacity + 1
            for _ in range(surplus):
                logger.info("dropping pipeline %s to make room", next(iter(self._recent))[0])
                self._recent.popitem(last=False)
        if surplus > 0:
            _release_memory()


def _best_device() -> dict[str, str]:
    """The device as an argument of `from_pretrained`; none on a CPU, where it is every pipeline's own choice."""
    from core.devices import resolve_device

    device = resolve_device("auto")
    return {} if device.type == "cpu" else {"device": str(device)}


def cache_from_environment(environ: Mapping[str, str] = os.environ) -> PipelineCache:
    """A cache as QUARTET_LOAD_POLICY and QUARTET_MAX_PIPELINES say; on ZeroGPU eager, else lazy, if unset."""
    policy = environ.get("QUARTET_LOAD_POLICY") or ("eager" if _truthy(environ.get("SPACES_ZERO_GPU")) else "lazy")
    capacity = environ.get("QUARTET_MAX_PIPELINES") or str(DEFAULT_CAPACITY)
    if policy not in ("lazy", "eager"):
        raise InputError(f"QUARTET_LOAD_POLICY is {policy!r}: set it to lazy or eager, or leave it out.")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", capacity):
        raise InputError(f"QUARTET_MAX_PIPELINES is {capacity!r}: set it to a whole number from 1, or leave it out.")
    return PipelineCache(int(capacity), policy)


def default_cache() -> PipelineCache:
    """The process's own cache, made on first use; when eager, that first use loads everything."""
    with _DEFAULT_LOCK:
        return _make_default_cache()


_DEFAULT_LOCK = threading.Lock()


@cache
def _make_default_cache() -> PipelineCache:
    made = cache_from_environment()
    if made.policy == "eager":
        made.preload()
    return made


def _sources(in_tree: Sequence[str]) -> Iterator[tuple[str, str, Callable[[str], Any]]]:
    """Each line of the catalogue: the slug to show if it fails, what it is called, and what loads it."""
    for path in in_tree:
        package = path.partition(":")[0].removesuffix(".plugin").rpartition(".")[2]
        yield _slugify(package), path, load_object
    names = (name.strip() for name in os.environ.get("QUARTET_PLUGINS", "").split(","))
    for name in dict.fromkeys(filter(None, names)):
        yield _slugify(name), name, _load_entry_point


def _entry(slug: str, path: str, load: Callable[[str], Any]) -> CatalogueEntry:
    try:
        spec = load(path)
        if not isinstance(spec, PluginSpec):
            raise TypeError(f"it names a {type(spec).__name__}, not a PluginSpec")
    except (Exception, SystemExit) as error:  # whatever a plugin does at import must not take the app down
        if strict():
            raise
        return CatalogueEntry(slug, failure=describe_failure(error, path))
    return CatalogueEntry(spec.slug, spec=spec)


def _load_entry_point(name: str) -> Any:
    points = tuple(metadata.entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not points:
        raise UnavailableError(
            f"QUARTET_PLUGINS names {name!r}, and no installed package offers a plugin of that name.",
            "Install the package that brings it, or take the name out of QUARTET_PLUGINS.",
        )
    if len({point.value for point in points}) > 1:
        raise QuartetError(f"Several installed packages offer a plugin named {name!r}: uninstall all but one.")
    return points[0].load()


def _require_dotted(path: str) -> None:
    if not _DOTTED.fullmatch(path):
        raise InputError(f"{path!r} is not a dotted path: write it as package.module:attribute.")


def _slugify(name: str) -> str:
    """A usable slug for a plugin whose spec, and so whose own slug, could not be read."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return slug if _SLUG.fullmatch(slug) else f"plugin-{slug}".rstrip("-")


def _release_memory() -> None:
    """Give freed weights back to the device; torch is asked only if something else imported it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _truthy(text: str | None) -> bool:
    return (text or "").strip().lower() not in ("", "0", "false", "no")
