"""A model behind an OpenAI-compatible server, such as vLLM, SGLang or llama.cpp: POST {base_url}/chat/completions."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from ..addresses import LOOPBACK, address_refusal
from ..coordinates import smart_resize
from ..errors import UIActionInputError
from ..screen import Screen
from .base import BackendError, Completion, Prompt, Video
from .prompts import Family, Message, chat_messages, family_of

ANSWER_LIMIT = 4_000_000
SAID_LIMIT = 300
CONNECT_SECONDS = 10.0
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_BACKOFF = 10.0


class OpenAICompatibleBackend:
    """Asks a server; any number of threads may use one.

    Images are brought here to the size that the model will see, so that the server has nothing left to resize and the
    completion's screen is exact. That holds while its own limits are no narrower than `min_pixels` and `max_pixels`,
    as with `--mm-processor-kwargs '{"min_pixels": 78400, "max_pixels": 2116800}'` of vLLM for Qwen2.5-VL.

    Args:
        base_url: up to and with /v1; http only on this machine, https anywhere.
        model: the name by which the server knows it.
        family: how it is spoken to, one of `prompts.FAMILIES`.
        api_key: sent as a bearer token; it appears in no error, name or trace.
        timeout: seconds for one try, until its answer is complete.
        retries: further tries after a lost connection or an answer of 408, 429 or 5xx, never after a timeout.
        max_tokens: of an answer.
        min_pixels, max_pixels: area of an image; the family's where left out.
        video_pixels: area of a frame of a clip; the last frame of a clip that ends the prompt is a screen and larger.
        backoff: seconds before the first retry, doubled for each further one.

    Raises:
        UIActionInputError: an address that is not allowed, or numbers below their least.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        family: str,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 2,
        max_tokens: int = 1000,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        video_pixels: int = 256 * 28**2,
        backoff: float = 0.5,
    ) -> None:
        self._kind: Family = family_of(family)
        self._address = f"{_checked_url(base_url)}/chat/completions"
        if not model:
            raise UIActionInputError("no model named: give the name by which the server knows it")
        if timeout <= 0 or retries < 0 or max_tokens < 1 or backoff < 0:
            raise UIActionInputError(
                "give a timeout above 0 s, 0 or more retries, at least 1 token, no negative backoff"
            )
        self.model, self.family, self.timeout, self.retries = model, family, timeout, retries
        self.max_tokens, self.backoff = max_tokens, backoff
        self.min_pixels = self._kind.min_pixels if min_pixels is None else min_pixels
        self.max_pixels = self._kind.max_pixels if max_pixels is None else max_pixels
        self.video_pixels = video_pixels
        smart_resize(448, 448, self._kind.factor, self.min_pixels, self.max_pixels)  # refuses limits that leave nothing
        parts = urlsplit(self._address)
        self.name = f"{model} at {parts.netloc}"
        self._key = _checked_key(api_key)
        # Proxies of the environment are for the outside: nothing for this machine leaves it.
        self._client = httpx.Client(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            follow_redirects=False,
            trust_env=(parts.hostname or "") not in LOOPBACK,
        )

    def __repr__(self) -> str:
        return f"OpenAICompatibleBackend({self.name!r}, family={self.family!r})"

    def __enter__(self) -> OpenAICompatibleBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up connections that are kept for the next question."""
        self._client.close()

    def complete(self, prompt: Prompt) -> Completion:
        """Ask, at temperature 0. Raises BackendError with what went wrong, after the retries."""
        messages = chat_messages(prompt, self.family)
        last = prompt.media[-1]
        screen = last.frames[-1] if isinstance(last, Video) else last
        width, height = self._sent_size(screen, self.min_pixels, self.max_pixels)
        body = json.dumps(
            {
                "model": self.model,
                "messages": [self._wire(message, index == len(messages) - 1) for index, message in enumerate(messages)],
                "temperature": 0,
                "max_tokens": self.max_tokens,
                "stream": False,
            }
        )
        answer = self._ask(body.encode())
        return Completion(
            text=self._text(answer),
            screen=Screen(screen.width, screen.height, width, height, self._kind.coordinates),
            prompt_tokens=_tokens(answer, "prompt_tokens"),
            output_tokens=_tokens(answer, "completion_tokens"),
        )

    def _wire(self, message: Message, is_last: bool) -> dict[str, Any]:
        parts = message["content"]
        if message["role"] != "user":
            return {"role": message["role"], "content": "".join(part["text"] for part in parts)}
        wired: list[dict[str, Any]] = []
        for index, part in enumerate(parts):
            match part["type"]:
                case "text":
                    wired.append(part)
                case "image":
                    wired.append(self._image(part["image"], self.min_pixels, self.max_pixels))
                case "video":
                    wired += self._clip(part["video"], part["fps"], is_last and index == len(parts) - 1)
        return {"role": "user", "content": wired}

    def _clip(self, frames: Sequence[Image.Image], fps: float, ends: bool) -> Iterator[dict[str, Any]]:
        """A clip as images, which every server takes; the last one is the current screen where the clip `ends`."""
        yield {"type": "text", "text": f"A clip of {len(frames)} frames, {fps:g} per second, oldest first:"}
        for frame in frames[:-1] if ends else frames:
            yield self._image(frame, 0, self.video_pixels)
        if ends:
            yield self._image(frames[-1], self.min_pixels, self.max_pixels)

    def _image(self, image: Image.Image, min_pixels: int, max_pixels: int) -> dict[str, Any]:
        size = self._sent_size(image, min_pixels, max_pixels)
        resized = image.convert("RGB")
        if resized.size != size:
            resized = resized.resize(size, Image.Resampling.BICUBIC)
        png = io.BytesIO()
        resized.save(png, "PNG")
        data = base64.b64encode(png.getvalue()).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}

    def _sent_size(self, image: Image.Image, min_pixels: int, max_pixels: int) -> tuple[int, int]:
        height, width = smart_resize(image.height, image.width, self._kind.factor, min_pixels, max_pixels)
        return width, height

    def _ask(self, body: bytes) -> dict[str, Any]:
        """The answer's JSON object, from the first try that does not fail in passing."""
        for attempt in range(self.retries + 1):
            try:
                status, content = self._post(body)
            except httpx.TimeoutException:
                raise self._error(
                    f"did not answer within {self.timeout:g} s: give it more time or fewer screens"
                ) from None
            except httpx.ConnectError:
                problem = "cannot be reached: is it running?"
            except httpx.HTTPError as error:
                problem = f"breaks off before its answer is complete ({type(error).__name__})"
            else:
                if status == 200:
                    return self._json(content)
                problem = self._refused(status, content)
                if status not in RETRIED:
                    break
            if attempt < self.retries:
                time.sleep(min(self.backoff * 2**attempt, LONGEST_BACKOFF))
        raise self._error(problem)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """One try: status and content. Raises httpx.HTTPError, or BackendError for an answer without an end."""
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        end = time.monotonic() + self.timeout
        content = bytearray()
        with self._client.stream("POST", self._address, content=body, headers=headers) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self._error("compresses its answer, which was not asked for: check the address")
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > ANSWER_LIMIT:
                    raise self._error(f"answers with more than {ANSWER_LIMIT:,} bytes: this is no chat completion")
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("too slow as a whole")
        return response.status_code, bytes(content)

    def _refused(self, status: int, content: bytes) -> str:
        if 300 <= status < 400:
            return f"redirects ({status}), which is not followed: give the address that it redirects to"
        if status in (401, 403):
            return f"refuses access ({status}): check the api_key"
        return f"answers {status}: {self._said(content) or 'nothing'}"

    def _said(self, content: bytes) -> str:
        """What a server says of its error, in a line without the key."""
        text = content.decode("utf-8", "replace")
        try:
            answer = json.loads(text)
            found = answer.get("error", answer) if isinstance(answer, dict) else answer
            text = str(found.get("message", found) if isinstance(found, dict) else found)
        except (ValueError, RecursionError):
            pass
        if self._key:
            text = text.replace(self._key, "***")
        return "".join(letter if letter.isprintable() else " " for letter in text[:SAID_LIMIT]).strip()

    def _json(self, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise self._error("answers with what is no JSON: check that the address ends in /v1") from None
        if not isinstance(answer, dict):
            raise self._error("answers with JSON that is no object: check that the address ends in /v1")
        return answer

    def _text(self, answer: dict[str, Any]) -> str:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise self._error("answers without a choice: this is no chat completion")
        message = choices[0].get("message") if isinstance(choices[0], dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            raise self._error("answers with a choice without text: does this model answer in words?")
        return text

    def _error(self, problem: str) -> BackendError:
        return BackendError(f"{self.name} {problem}")


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if refusal := address_refusal(base_url, (host,)):
        raise UIActionInputError(f"base_url: {refusal}")
    if parts.query or parts.fragment:
        raise UIActionInputError("base_url with a query or fragment: give it up to and with /v1")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise UIActionInputError(f"base_url over http to {host}: screens and keys go out over https only")
    return base_url.rstrip("/")


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise UIActionInputError("api_key: give printable ASCII characters without blanks, or None")
    return key


def _tokens(answer: dict[str, Any], name: str) -> int | None:
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and count >= 0 else None
