"""A technique's published code as it lies in its Hub repository, where `trust_remote_code=True` runs it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from core.errors import QuartetError
from core.registry import PluginSpec

INDEX = "model_index.json"
_RELATIVE_IMPORT = re.compile(r"^([ \t]*from[ \t]+\.+)(?=\w)", re.MULTILINE)
_ENTRY = '''"""Where diffusers begins: the pipeline, and the name of every file that it needs.

diffusers reads the relative imports of the file that it loads, and fetches those files; it goes no further into a local
folder, and follows every path of imports on the Hub. So all names stand here, and the other files write their relative
imports with a space, which Python reads the same and diffusers does not count.
"""

from typing import TYPE_CHECKING

from .{module} import {name}

if TYPE_CHECKING:
{lines}

__all__ = ["{name}"]
'''


def plugin_folder(spec: PluginSpec) -> Path:
    """The folder of a technique's package; nothing heavy is imported to find it."""
    package = spec.pipeline.partition(":")[0].rpartition(".")[0]
    found = find_spec(package)
    if found is None or found.origin is None:
        raise QuartetError(f"{package}, the package of {spec.slug}, has no folder: install it as plain files.")
    return Path(found.origin).parent


def published_code(spec: PluginSpec) -> dict[str, bytes]:
    """The files of `spec.published`, by name, as they are in the plugin now.

    Raises:
        QuartetError: one of them is not there.
    """
    folder = plugin_folder(spec)
    missing = [name for name in spec.published if not (folder / name).is_file()]
    if missing:
        raise QuartetError(
            f"{spec.slug} publishes {', '.join(missing)}, not in {folder}: put right PluginSpec.published."
        )
    return {name: (folder / name).read_bytes() for name in spec.published}


def for_diffusers(spec: PluginSpec, code: Mapping[str, bytes], index: bytes) -> dict[str, bytes]:
    """The code and the index as diffusers' loader (0.42) can follow them, from a folder and from the Hub.

    Args:
        code: files of the technique, at most one folder deep.
        index: model_index.json of the checkpoint.

    Returns:
        The code with a file to begin at, and an index that names that file beside the class.
    """
    path, _, name = spec.pipeline.partition(":")
    _, package, module = path.rsplit(".", 2)
    entry = f"{package}_pipeline"
    text = _ENTRY.format(module=module, name=name, lines=_import_lines(list(code)))
    settings = json.loads(index) | {"_class_name": [entry, name]}
    return {
        **{file: _unseen_by_diffusers(source) for file, source in code.items()},
        f"{entry}.py": text.encode(),
        INDEX: (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(),
    }


def _import_lines(files: Sequence[str]) -> str:
    modules = sorted(file.removesuffix(".py").replace("/", ".") for file in files)
    return "\n".join(f"    from .{module} import __name__ as _" for module in modules)


def _unseen_by_diffusers(source: bytes) -> bytes:
    """The same program with a space in its relative imports."""
    text = source.decode()
    spaced = _RELATIVE_IMPORT.sub(r"\1 ", text)
    if ast.dump(ast.parse(text)) != ast.dump(ast.parse(spaced)):
        raise QuartetError("a text in the code reads like a relative import and would be changed: word it otherwise.")
    return spaced.encode()
