"""A run on disk: lines of JSON, each chained to the one before by its hash, and the screens beside them.

The chain shows that a line was edited, cut, added or moved. Someone who writes the whole file anew can make a new
chain: to rule that out, keep `Trace.digest` elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Literal

from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from .errors import UIActionInputError
from .policy import Policy
from .records import RESUMABLE, Header, Outcome, Step, canonical, sha256

FORMAT: Literal["ui-action-trace-1"] = "ui-action-trace-1"
FIRST = "0" * 64
MOST_LINE_BYTES = 1 << 20
MOST_FILE_BYTES = 1 << 26
MOST_PICTURE_BYTES = 1 << 26
MOST_PICTURE_PIXELS = 1 << 26
MOST_CHARACTERS = 8000  # of one text; two such answers and all that was parsed of them fit a line
# What people, models or pages say, wherever it stands in a record; everything else is of our own words.
FREE_TEXTS = frozenset(
    {
        "instruction",
        "text",
        "thought",
        "reflection",
        "flags",
        "error",
        "observation",
        "note",
        "reason",
        "message",
        "answer",
        "backend",
        "reasoner",
        "executor",
    }
)


class TraceError(UIActionInputError):
    """A trace that is not what was written, or not a trace; the message names the line."""


@dataclass(frozen=True)
class HeaderLine:
    """The first line."""

    header: Header
    kind: Literal["header"] = "header"
    format: Literal["ui-action-trace-1"] = FORMAT


@dataclass(frozen=True)
class StepLine:
    """A turn, with the name of the screen that it began with."""

    step: Step
    screenshot: str
    kind: Literal["step"] = "step"


@dataclass(frozen=True)
class OutcomeLine:
    """The last line, and one before it wherever a run waited and was gone on with."""

    outcome: Outcome
    screenshot: str
    kind: Literal["outcome"] = "outcome"


Line = HeaderLine | StepLine | OutcomeLine
_LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


@dataclass(frozen=True)
class Trace:
    """A run as read back.

    Attributes:
        path: of its file; the screens lie beside it.
        steps: in order.
        outcome, last_screenshot: of the closing line.
        digest: the last line's hash.
    """

    path: Path
    header: Header
    steps: tuple[StepLine, ...]
    outcome: Outcome
    last_screenshot: str
    digest: str

    def screenshot(self, name: str) -> bytes:
        """The PNG file of a screen, as it was written.

        Raises TraceError for a name that is no hash, and for a file that is missing, too large, a link, or another one.
        """
        if not re.fullmatch("[0-9a-f]{64}", name):
            raise TraceError(f"screenshot {name[:80]!r}: names are 64 hexadecimal digits")
        with _opened(self.path.with_name(f"{name}.png"), MOST_PICTURE_BYTES) as file:
            content = file.read(MOST_PICTURE_BYTES + 1)
        if hashlib.sha256(content).hexdigest() != name:
            raise TraceError(f"screenshot {name}.png was changed: its hash is not its name")
        return content

    def image(self, name: str) -> Image.Image:
        """The same as pixels, RGB. Raises TraceError as `screenshot` does, and for what is no picture of a screen."""
        try:
            with Image.open(io.BytesIO(self.screenshot(name)), formats=["PNG"]) as picture:
                if picture.width * picture.height > MOST_PICTURE_PIXELS:
                    raise TraceError(f"screenshot {name}.png has more than {MOST_PICTURE_PIXELS} pixels")
                return picture.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise TraceError(f"screenshot {name}.png is no PNG picture: {error}") from error


class TraceWriter:
    """Appends a run to a new file; every line is on disk before the next action is carried out.

    Long texts are cut to `MOST_CHARACTERS`; what the run's policy redacts is left out, and so are its patterns.

    Args:
        path: of the file, which must not be there yet; its folder is made, and gets the screens too.

    Raises:
        TraceError: the file is there already, or cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._previous = FIRST
        self._policy = Policy()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("xb")
        except FileExistsError as error:
            raise TraceError(f"{self.path.name} is there already: give each run a file of its own") from error
        except OSError as error:
            raise TraceError(f"{self.path.name} cannot be written: {error.strerror}") from error

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, header: Header) -> None:
        """Write the first line."""
        self._policy = header.policy
        self._append(HeaderLine(replace(header, policy=replace(header.policy, redact=()))))

    def step(self, step: Step, image: Image.Image) -> None:
        """Write a turn, and the screen it began with."""
        self._append(StepLine(step, self._keep(image)))

    def end(self, outcome: Outcome, image: Image.Image) -> None:
        """Write an outcome. A run that can be gone on with may add to it."""
        self._append(OutcomeLine(outcome, self._keep(image)))

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def _append(self, line: Line) -> None:
        record = canonical(self._published(asdict(line)))
        self._previous = _chained(self._previous, record)
        self._file.write(_written(self._previous, record))
        self._file.flush()

    def _published(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._published(item, key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._published(item, name) for item in value]
        if not isinstance(value, str):
            return value
        # Models also write half surrogate pairs, which no encoding of Unicode has.
        text = (self._policy.redacted(value) if name in FREE_TEXTS else value).encode("utf-8", "replace").decode()
        return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"

    def _keep(self, image: Image.Image) -> str:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        name = hashlib.sha256(buffer.getvalue()).hexdigest()
        picture = self.path.with_name(f"{name}.png")
        if not picture.exists():
            picture.write_bytes(buffer.getvalue())
        return name


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """A finished trace. Screens are read and checked when they are asked for.

    Raises:
        TraceError: no such file, too large, a line that was edited, cut, added or moved, or no closing line.
    """
    path = Path(path)
    story = _Story()
    previous = FIRST
    with _opened(path, MOST_FILE_BYTES) as file:
        for number, content in enumerate(iter(lambda: file.readline(MOST_LINE_BYTES + 1), b""), 1):
            where = f"{path.name}, line {number}"
            previous, line = _read_line(content, previous, where)
            story.add(line, where)
    if story.header is None or story.end is None:
        raise TraceError(f"{path.name} ends without an outcome: it was cut, or the run is still going on")
    return Trace(path, story.header, tuple(story.steps), story.end.outcome, story.end.screenshot, previous)


@dataclass
class _Story:
    """The lines so far, each where it may stand: `end` is the line before, if that is an outcome."""

    header: Header | None = None
    steps: list[StepLine] = field(default_factory=list)
    end: OutcomeLine | None = None

    def add(self, line: Line, where: str) -> None:
        if isinstance(line, HeaderLine) is (self.header is not None):
            raise TraceError(f"{where}: a trace has its header in the first line, and only there")
        if self.end is not None and self.end.outcome.status not in RESUMABLE:
            raise TraceError(f"{where}: the run ended in the line before, with {self.end.outcome.status}")
        if isinstance(line, HeaderLine):
            self.header = line.header
        elif isinstance(line, OutcomeLine):
            self.end = line
        elif line.step.number != len(self.steps) + 1:
            raise TraceError(f"{where}: step {line.step.number} where step {len(self.steps) + 1} belongs")
        else:
            self.steps.append(line)
            self.end = None


def _chained(previous: str, record: str) -> str:
    return sha256(previous + record)


def _written(digest: str, record: str) -> bytes:
    return f'{{"hash":"{digest}","record":{record}}}\n'.encode("ascii")


def _opened(path: Path, most: int) -> IO[bytes]:
    """A file of the trace's own folder, open for reading. Raises TraceError for links, devices and large files."""
    if path.is_symlink():
        raise TraceError(f"{path.name} is a link: give the file itself")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        status = os.fstat(descriptor)
    except OSError as error:
        raise TraceError(f"{path.name} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        os.close(descriptor)
        raise TraceError(f"{path.name} is no plain file of at most {most} bytes")
    return os.fdopen(descriptor, "rb")


def _read_line(content: bytes, previous: str, where: str) -> tuple[str, Line]:
    """The line's hash and what it says; checked against `previous` before anything of it is believed."""
    if len(content) > MOST_LINE_BYTES:
        raise TraceError(f"{where}: longer than {MOST_LINE_BYTES} bytes")
    try:
        read = json.loads(content)
        record = canonical(read["record"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TraceError(f"{where}: not as it was written: no line of a trace") from error
    digest = _chained(previous, record)
    # The whole line is compared: JSON could be changed in ways that leave its meaning, and so the hash, as they are.
    if content != _written(digest, record):
        raise TraceError(f"{where}: not as it was written: edited, moved, or a line before it is missing")
    try:
        return digest, _LINES.validate_json(record, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise TraceError(f"{where}: {place or 'record'}: {first['msg']}") from error
