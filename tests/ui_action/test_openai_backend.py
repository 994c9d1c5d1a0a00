"""A model behind a server: what is sent to it, to the byte, and what becomes of servers that misbehave."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image, ImageChops

from plugins.ui_action.backends.base import BackendError, Prompt, Turn, Video
from plugins.ui_action.backends.openai_compatible import ANSWER_LIMIT, OpenAICompatibleBackend
from plugins.ui_action.coordinates import smart_resize
from plugins.ui_action.errors import UIActionInputError
from plugins.ui_action.screen import Screen

KEY = "sk-secret-42"
GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "Action: wait()"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}
Reply = Callable[[BaseHTTPRequestHandler], object]


def say(body: object, status: int = 200, **headers: str) -> Reply:
    """Answer with this: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


@dataclass
class Server:
    """A server that answers from a list; the last answer stays.

    Attributes:
        seen: (path, headers, body) of every request.
    """

    url: str = ""
    replies: list[Reply] = field(default_factory=lambda: [say(GOOD)])
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def running() -> Generator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.seen.append((self.path, dict(self.headers), json.loads(body)))
            reply = state.replies.pop(0) if len(state.replies) > 1 else state.replies[0]
            with contextlib.suppress(OSError):  # the one who asked has gone
                reply(self)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.replies, running.seen = [say(GOOD)], []
    return running


def backend(server: Server, *, family: str = "ui-tars-1.5", **options: Any) -> OpenAICompatibleBackend:
    options = {"backoff": 0.0, "timeout": 5.0, **options}
    return OpenAICompatibleBackend(server.url, "some-model", family=family, **options)


def picture(width: int, height: int, red: int = 0) -> Image.Image:
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    return ImageChops.add(image, Image.new("RGB", image.size, (red, 0, 0)))


def ask(*media: Image.Image | Video, history: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt("act", "press the red button", media, "desktop", history)


def sent(part: dict[str, Any]) -> Image.Image:
    """The image that went out."""
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"])


def failure(server: Server, reply: Reply, **options: Any) -> str:
    server.replies = [reply]
    with pytest.raises(BackendError) as caught, backend(server, api_key=KEY, **options) as asked:
        asked.complete(ask(picture(56, 56)))
    assert KEY not in "".join([str(caught.value), repr(caught.value), repr(caught.value.__cause__)])
    return str(caught.value)


def test_a_question_is_sent_as_chat_completions_have_it(server: Server) -> None:
    screens = [picture(308, 280, red) for red in (10, 20)]
    history = (Turn((screens[0],), "Action: click(start_box='(5,6)')", "nothing happened"),)
    with backend(server, api_key=KEY) as asked:
        completion = asked.complete(ask(screens[1], history=history))
    ((path, headers, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "some-model",
        "temperature": 0,
        "max_tokens": 1000,
        "stream": False,
    }
    system, first, answer, last = body["messages"]
    assert system == {"role": "system", "content": "You are a helpful assistant."}
    assert answer == {"role": "assistant", "content": "Action: click(start_box='<|box_start|>(5,6)<|box_end|>')"}
    assert [part["type"] for part in first["content"]] == ["text", "image_url"]
    assert "press the red button" in first["content"][0]["text"]
    assert last["content"][0] == {"type": "text", "text": "Note: nothing happened"}
    # 308 x 280 is legal already, so that the very pixels go out.
    assert [sent(part).tobytes() for part in (first["content"][1], last["content"][1])] == [
        screen.tobytes() for screen in screens
    ]
    assert (completion.text, completion.prompt_tokens, completion.output_tokens) == ("Action: wait()", 12, 3)
    assert completion.screen == Screen(308, 280, 308, 280, "absolute")


@pytest.mark.parametrize(
    ("family", "size", "options", "model_size", "coordinates"),
    [
        ("ui-tars-1.5", (1280, 720), {}, (1288, 728), "absolute"),
        ("qwen2.5-vl", (1920, 1080), {"max_pixels": 1280 * 784}, (1316, 728), "absolute"),
        ("ui-tars-1.0", (390, 844), {}, (392, 840), "relative-1000"),
        ("qwen3-vl", (1920, 1080), {}, (1504, 832), "relative-1000"),
        ("tiny", (168, 112), {}, (168, 112), "absolute"),
    ],
)
def test_the_screen_of_a_completion_is_the_size_that_was_sent_and_that_the_server_will_not_change(
    server: Server,
    family: str,
    size: tuple[int, int],
    options: dict[str, int],
    model_size: tuple[int, int],
    coordinates: Any,
) -> None:
    with backend(server, family=family, **options) as asked:
        screen = asked.complete(ask(picture(*size))).screen
        factor = 32 if family == "qwen3-vl" else 28
        again = smart_resize(*model_size[::-1], factor, asked.min_pixels, asked.max_pixels)
    image = sent(server.seen[0][2]["messages"][-1]["content"][-1])
    assert image.size == model_size == again[::-1]
    assert screen == Screen(*size, *model_size, coordinates)


def test_a_clip_goes_out_as_its_frames_in_order_before_the_current_screen(server: Server) -> None:
    frames = tuple(picture(336, 224, red) for red in (10, 60, 110))
    with backend(server) as asked:
        asked.complete(ask(Video(frames, 2.0), picture(308, 280)))
    _, text, *images = server.seen[0][2]["messages"][-1]["content"]
    assert text == {"type": "text", "text": "A clip of 3 frames, 2 per second, oldest first:"}
    assert [sent(part).tobytes() for part in images] == [each.tobytes() for each in (*frames, picture(308, 280))]


def test_the_last_frame_of_a_clip_that_ends_a_prompt_is_the_screen_that_points_refer_to(server: Server) -> None:
    frames = (picture(1280, 720), picture(1280, 720))
    with backend(server) as asked:
        screen = asked.complete(ask(Video(frames, 2.0))).screen
    images = [sent(part).size for part in server.seen[0][2]["messages"][-1]["content"][2:]]
    assert images == [(588, 336), (1288, 728)]
    assert screen.model_size == (1288, 728)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": True}])
def test_tokens_that_a_server_does_not_count_are_unknown(server: Server, usage: object) -> None:
    server.replies = [say({**GOOD, "usage": usage})]
    with backend(server) as asked:
        completion = asked.complete(ask(picture(56, 56)))
    assert completion.prompt_tokens is completion.output_tokens is None


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (say(b"<html>hello</html>"), "no JSON"),
        (say(b"[" * 100_000), "no JSON"),
        (say(b"[1]"), "no object"),
        (say({"choices": []}), "without a choice"),
        (say({"error": "none"}), "without a choice"),
        (say({"choices": [{"message": {"content": None}}]}), "without text"),
        (say({"choices": ["hello"]}), "without text"),
        (say({"error": {"message": f"At most 1 image\n{KEY}"}}, 400), r"answers 400: At most 1 image \*\*\*"),
        (say(b"\xff\xfe", 404), "answers 404"),
        (say(f"bad key {KEY}".encode(), 401), "check the api_key"),
        (say(b"", 302, Location="http://example.org/v1/chat/completions"), "redirects"),
        (say(b"x" * (ANSWER_LIMIT + 1)), "more than 4,000,000 bytes"),
        (say(GOOD, Content_Encoding="gzip"), "compresses"),
        (say(b"{}", Content_Length="100"), "breaks off"),
    ],
)
def test_what_is_no_completion_is_a_clear_error(server: Server, reply: Reply, message: str) -> None:
    assert re.search(message, failure(server, reply, retries=0))


def test_words_instead_of_http_are_a_clear_error(server: Server) -> None:
    assert "breaks off" in failure(server, lambda handler: handler.wfile.write(b"hello\r\n"), retries=0)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """An answer that never quite comes."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(60):
        handler.wfile.write(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("reply", [lambda handler: time.sleep(1.0), drip], ids=["silent", "dripping"])
def test_a_server_that_is_too_slow_is_given_up_in_time_and_not_asked_again(server: Server, reply: Reply) -> None:
    began = time.monotonic()
    assert "did not answer within 0.3 s" in failure(server, reply, timeout=0.3)
    assert time.monotonic() - began < 1
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(server: Server, status: int) -> None:
    server.replies = [say({"error": "busy"}, status), say(b"", 503), say(GOOD)]
    with backend(server) as asked:
        assert asked.complete(ask(picture(56, 56))).text == "Action: wait()"
    assert len(server.seen) == 3


def test_a_lasting_failure_is_not_tried_again(server: Server) -> None:
    failure(server, say({"error": "no such model"}, 404))
    assert len(server.seen) == 1


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    with (
        OpenAICompatibleBackend("http://127.0.0.1:9/v1", "m", family="tiny", retries=1, backoff=0.0) as asked,
        pytest.raises(BackendError, match=r"m at 127\.0\.0\.1:9 cannot be reached"),
    ):
        asked.complete(ask(picture(56, 56)))


def test_the_key_shows_in_no_name(server: Server) -> None:
    with backend(server, api_key=KEY) as asked:
        assert KEY not in repr(asked) + str(asked) + asked.name
        assert asked.name == f"some-model at {server.url.removeprefix('http://').removesuffix('/v1')}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "http://example.org/v1"}, "https only"),
        ({"base_url": "http://10.0.0.1:8000/v1"}, "https only"),
        ({"base_url": "ftp://127.0.0.1/v1"}, "http"),
        ({"base_url": "127.0.0.1:8000"}, "http"),
        ({"base_url": f"http://user:{KEY}@127.0.0.1/v1"}, "password"),
        ({"base_url": "http://127.0.0.1/v1?key=1"}, "query"),
        ({"model": ""}, "name"),
        ({"family": "gpt"}, "choose one of"),
        ({"api_key": f"{KEY}\r\nHost: x"}, "api_key"),
        ({"timeout": 0}, "timeout"),
        ({"max_pixels": 100}, "pixels"),
    ],
)
def test_a_backend_that_would_be_unsafe_or_useless_is_refused(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"base_url": "http://127.0.0.1:8000/v1", "model": "m", "family": "tiny", **change}
    with pytest.raises(UIActionInputError, match=message) as caught:
        OpenAICompatibleBackend(options.pop("base_url"), options.pop("model"), **options)
    assert KEY not in str(caught.value)
