"""Who may know whom: the house's import rules, read from the source of every module."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

import pytest

from core.registry import catalogue

ROOT = Path(__file__).resolve().parent.parent
HOUSE = frozenset({"app", "apps", "core", "plugins", "tests", "hub_cards"})
MAY_KNOW = {
    "app": {"apps", "core"},
    "apps": {"apps", "core"},
    "core": {"core"},
    "plugins": {"plugins", "core"},  # and less than that: see `is_allowed`
    "hub_cards": {"hub_cards"},  # a repository's own files
}
MAY_KNOW_CORE = ("plugin.py", "__main__.py", "cli*.py", "train*.py", "evaluate*.py", "benchmark*.py")
HEAVY = ("torch", "gradio", "transformers", "diffusers", "pandas")


@dataclass(frozen=True)
class Import:
    """One imported name, "package.module.attribute", relative ones resolved; `level` counts their dots."""

    name: str
    level: int = 0

    @property
    def parts(self) -> list[str]:
        return self.name.split(".")


def sources() -> list[PurePosixPath]:
    """Every module of the house but its tests, relative to the root."""
    found = [ROOT / "app.py"] if (ROOT / "app.py").exists() else []
    for folder in ("apps", "core", "plugins", "hub_cards"):
        found += sorted((ROOT / folder).rglob("*.py"))
    return [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in found]


def imports_of(path: PurePosixPath, source: str) -> Iterator[Import]:
    """Everything that a module imports, anywhere in it and by `import_module` or `__import__` too."""
    package = path.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *filter(None, [node.module]))
            yield from (Import(".".join((*module, alias.name)), node.level) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield Import(str(node.args[0].value))


def is_allowed(path: PurePosixPath, found: Import) -> bool:
    """Whether the house lets this module import that name."""
    place, target = path.parts[0].removesuffix(".py"), found.parts
    if target[0] not in HOUSE:
        return True
    if target[0] not in MAY_KNOW[place]:
        return False
    if place == "plugins" and target[0] == "core":
        return any(fnmatch(path.name, pattern) for pattern in MAY_KNOW_CORE)
    if place == target[0] and place in ("plugins", "hub_cards"):
        return target[1:2] == list(path.parts[1:2])
    return True


@cache
def importable() -> frozenset[str]:
    """Top-level names of the standard library, of what is installed, and of what a GPU adds."""
    return frozenset(packages_distributions()) | sys.stdlib_module_names | {"xformers"}


def is_publishable(path: PurePosixPath, found: Import, published: tuple[str, ...]) -> bool:
    """Whether this import still works when the published files lie beside a checkpoint."""
    if found.level == 0:
        return found.parts[0] not in HOUSE and found.parts[0] in importable()
    root = PurePosixPath(*path.parts[:2])  # plugins/<name>
    name = PurePosixPath(*found.parts)
    if not name.is_relative_to(root) or name == root or found.level > len(path.parts) - 2:
        return False
    inside = name.relative_to(root)
    for length in range(len(inside.parts), 0, -1):  # the longest part of the name that is a file
        for end in (".py", "/__init__.py"):
            file = "/".join(inside.parts[:length]) + end
            if file in published:
                return True
            if (ROOT / root / file).exists():
                return False
    return False


def published_files() -> dict[PurePosixPath, tuple[str, ...]]:
    """Each published file with the list that it is on."""
    return {
        PurePosixPath(*spec.pipeline.partition(":")[0].split(".")[:-1], name): spec.published
        for spec in catalogue()
        for name in spec.published
    }


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_module_imports_only_what_the_house_lets_it(path):
    found = imports_of(path, (ROOT / path).read_text(encoding="utf-8"))
    assert [each.name for each in found if not is_allowed(path, each)] == []


@pytest.mark.parametrize("path", published_files(), ids=str)
def test_a_published_file_can_leave_the_house(path):
    published = published_files()[path]
    found = imports_of(path, (ROOT / path).read_text(encoding="utf-8"))
    assert [each.name for each in found if not is_publishable(path, each, published)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app.py", "import plugins.attribution"),
        ("apps/tracking.py", "from plugins.tracking import SataPipeline"),
        ("apps/tracking.py", "def handler():\n    from plugins import tracking"),
        (
            "apps/tracking.py",
            "import importlib\ndef handler():\n    importlib.import_module('plugins.tracking')",
        ),
        ("apps/tracking.py", "from ..plugins import tracking"),
        ("apps/tracking.py", "import app"),
        ("core/jobs.py", "from apps.shell import theme"),
        ("core/jobs.py", "def late():\n    import plugins.attribution.pipeline"),
        ("plugins/tracking/model.py", "from core.errors import InputError"),
        ("plugins/tracking/model.py", "from ...core import errors"),
        ("plugins/tracking/pipeline.py", "import plugins.attribution"),
        ("plugins/tracking/train.py", "from ..attribution import decompose"),
        ("plugins/tracking/train.py", "import apps.tracking"),
        ("plugins/tracking/data/train.py", "from plugins import attribution"),
        ("hub_cards/tracking/model.py", "import core.hub"),
        ("hub_cards/tracking/model.py", "from ..other import model"),
    ],
)
def test_the_rules_catch(path, source):
    place = PurePosixPath(path)
    assert [found for found in imports_of(place, source) if not is_allowed(place, found)]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app.py", "from apps.shell import build\nfrom core import jobs"),
        (
            "apps/tracking.py",
            "from core.registry import default_cache\nimport gradio as gr\nfrom . import shell",
        ),
        ("plugins/tracking/plugin.py", "from core.registry import PluginSpec"),
        ("plugins/tracking/train_small.py", "from core.runs import Stopwatch\nfrom .model import Sata"),
        ("plugins/tracking/train.py", "from plugins.tracking.model import Sata"),
        ("hub_cards/tracking/model.py", "from .parts import Sata"),
    ],
)
def test_the_rules_let_through(path, source):
    place = PurePosixPath(path)
    assert all(is_allowed(place, found) for found in imports_of(place, source))


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ("import torch\nfrom numpy import ndarray\nimport json", True),
        ("from .model import Sata\nfrom . import model", True),
        ("from .train import run", False),
        ("from . import train", False),
        ("from .layers.attention import attend", True),
        ("from ..attribution.model import decompose", False),
        ("from plugins.tracking.model import Sata", False),
        ("from core.errors import InputError", False),
        ("import a_package_nobody_has", False),
        ("def late():\n    import core", False),
    ],
)
def test_a_published_file_may_import_siblings_and_packages_only(source, fits):
    path = PurePosixPath("plugins/tracking/pipeline.py")
    found = list(imports_of(path, source))
    assert found
    published = ("model.py", "pipeline.py", "layers/__init__.py", "layers/attention.py")
    assert all(is_publishable(path, each, published) for each in found) is fits


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ("from ..model import Sata", True),
        ("from .attention import attend", True),
        ("from ..train import run", False),
        ("from .secret import run", True),  # a name of the package itself, as far as its source tells
        ("from ...attribution.model import decompose", False),
        ("from core.errors import InputError", False),
    ],
)
def test_a_published_file_in_a_folder_may_import_its_siblings_and_the_folder_above(source, fits):
    found = list(imports_of(PurePosixPath("plugins/tracking/layers/__init__.py"), source))
    published = ("model.py", "layers/__init__.py", "layers/attention.py")
    assert (
        all(is_publishable(PurePosixPath("plugins/tracking/layers/__init__.py"), each, published) for each in found)
        is fits
    )


def heavy_modules_after(code: str) -> list[str]:
    """Which heavy packages a new Python process has imported once `code` is through."""
    report = f"\nimport json, sys\nprint('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_reading_the_catalogue_imports_nothing_heavy():
    code = "import core.registry\nassert core.registry.catalogue()"
    assert heavy_modules_after(code) == []


@pytest.mark.parametrize("module", ["errors", "cost", "jobs", "runs", "registry"])
def test_the_light_parts_of_core_stay_light(module):
    assert heavy_modules_after(f"import core.{module}") == []


@pytest.mark.parametrize("package", sorted({spec.pipeline.rpartition(".")[0] for spec in catalogue()}))
def test_help_on_the_command_line_imports_nothing_heavy(package):
    code = f"""
import runpy, sys
sys.argv = [{package!r}, "--help"]
try:
    runpy.run_module({package!r}, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
"""
    assert heavy_modules_after(code) == []


def test_the_probe_for_heavy_modules_sees_one():
    assert heavy_modules_after("import pandas") == ["pandas"]
