"""A small Hub on this machine: what huggingface_hub asks to create, upload, list, tag and download, over real HTTP.

Repositories are kept in memory, with every commit, so that a revision can be pinned. Large files go the LFS way. Faults
can be laid in the way of requests. Xet has to be off in the client (HF_HUB_DISABLE_XET=1).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

LARGE = 100_000  # bytes; larger files go by LFS, as do all safetensors
DEFAULT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    content: bytes
    large: bool = False

    @cached_property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content, usedforsecurity=False).hexdigest()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.large else self.git_oid

    def entry(self, path: str) -> dict[str, Any]:
        """As the tree's listing shows it."""
        found = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_oid}
        lfs = {"oid": self.oid, "size": len(self.content), "pointerSize": 130}
        return found | ({"lfs": lfs} if self.large else {})


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    message: str
    files: dict[str, Blob]
    parent: str = ""

    @cached_property
    def oid(self) -> str:
        tree = "".join(f"{path} {self.files[path].oid}\n" for path in sorted(self.files))
        return hashlib.sha1(f"{self.parent}\n{self.message}\n{tree}".encode(), usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """A repository with its history, newest last."""

    kind: str
    private: bool
    sdk: str | None
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def find(self, revision: str) -> Commit:
        wanted = self.head.oid if revision == "main" else self.tags.get(revision, revision)
        for commit in self.commits:
            if commit.oid == wanted:
                return commit
        raise HTTPException(404, headers={"X-Error-Code": "RevisionNotFound"})


@dataclass
class Fault:
    """Something that goes wrong.

    Attributes:
        path: part of the paths that it befalls. method: of the requests; any if empty.
        after: requests of that kind that pass before. times: how many it befalls then.
        status: what is answered, with `code` as the Hub's name of the error; None drops the connection.
        late: the request is carried out, and only then the connection drops.
    """

    path: str = ""
    method: str = ""
    after: int = 0
    times: int = 1
    status: int | None = None
    code: str = ""
    late: bool = False

    def befalls(self, method: str, path: str) -> bool:
        if self.path not in path or self.method not in ("", method):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return self.times >= 0


class HubServer:
    """The server and what it holds.

    Attributes:
        endpoint: its address, for HF_ENDPOINT.
        tokens: which token is whose; a user may write under the own name only.
        repositories: by (kind, "owner/name").
        requests: "METHOD path" of every request so far.
        faults: what goes wrong.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.tokens = {"token-of-ann": "ann", "token-of-bob": "bob"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self._app = Starlette(routes=list(_routes(self)))

    def add(self, repo_id: str, files: dict[str, bytes], *, kind: str = "model", message: str = "Add") -> str:
        """Put a repository, or another commit of it, there without a client; returns the commit."""
        blobs = {path: Blob(content, _is_large(path, len(content))) for path, content in files.items()}
        repository = self.repositories.setdefault((kind, repo_id), Repository(kind, private=False, sdk=None))
        parent = repository.head.oid if repository.commits else ""
        repository.commits.append(Commit(message, blobs, parent))
        return repository.head.oid

    def model(self, repo_id: str) -> Repository:
        """A model's repository."""
        return self.repositories["model", repo_id]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(f"{scope['method']} {scope['path']}")
        fault = next((each for each in self.faults if each.befalls(scope["method"], scope["path"])), None)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.status is not None:
            answer = Response(
                status_code=fault.status, headers={"X-Error-Code": fault.code, "X-Error-Message": "as told"}
            )
            await answer(scope, receive, send)
        else:
            if fault.late:
                await self._app(scope, receive, _unsent)
            send.__self__.transport.abort()  # ty: ignore[missing-attribute]

    def url(self, kind: str, owner: str, name: str) -> str:
        """The page of a repository."""
        return f"{self.endpoint}/{'spaces/' if kind == 'space' else ''}{owner}/{name}"

    def user(self, request: Request) -> str | None:
        """Whose token it is; None without one."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise HTTPException(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        return self.tokens.get(token)

    def find(self, request: Request, *, write: bool = False) -> Repository:
        """The repository of a request, if its sender may see it, or write to it."""
        user, owner = self.user(request), request.path_params["owner"]
        repo_id = f"{owner}/{request.path_params['name']}"
        found = self.repositories.get((request.path_params.get("kind", "models").removesuffix("s"), repo_id))
        if found is None or (found.private and user != owner):
            raise HTTPException(404 if user else 401, headers={"X-Error-Code": "RepoNotFound"})
        if write and user != owner:
            raise HTTPException(403, headers={"X-Error-Message": "You have no right to write here"})
        return found


@contextlib.contextmanager
def serving(hub: HubServer | None = None) -> Generator[HubServer]:
    """The server, on a free port of this machine while the block lasts."""
    hub = hub or HubServer()
    config = uvicorn.Config(hub, port=0, log_level="critical", proxy_headers=False, lifespan="off", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
        assert thread.is_alive(), "the server did not start"
    hub.endpoint = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


async def _unsent(message: Message) -> None:
    """In the place of a connection that is gone."""


def _is_large(path: str, size: int) -> bool:
    return path.endswith(".safetensors") or size > LARGE


Answer = Callable[[HubServer, Request], Awaitable[Response]]


def _routes(hub: HubServer) -> Iterator[Route]:
    def route(path: str, answer: Answer, *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await answer(hub, request)

        return Route(path, endpoint, methods=list(methods))

    repo = "/api/{kind:str}/{owner}/{name}"
    yield route("/api/repos/create", _create, "POST")
    yield route("/api/validate-yaml", _validate_card, "POST")
    yield route("/lfs/{oid}", _store, "PUT")
    yield route(f"{repo}/preupload/{{revision:path}}", _preupload, "POST")
    yield route(f"{repo}/commit/{{revision:path}}", _commit, "POST")
    yield route(f"{repo}/tag/{{revision:path}}", _tag, "POST")
    yield route(f"{repo}/refs", _refs, "GET")
    yield route(f"{repo}/revision/{{revision:path}}", _info, "GET")
    yield route(f"{repo}/tree/{{revision:str}}", _tree, "GET")
    yield route(f"{repo}/tree/{{revision:str}}/{{folder:path}}", _tree, "GET")
    yield route(repo, _info, "GET")
    for prefix in ("/{kind:str}/{owner}/{name}", "/{owner}/{name}"):
        yield route(f"{prefix}.git/info/lfs/objects/batch", _batch, "POST")
        yield route(f"{prefix}/resolve/{{revision:str}}/{{path:path}}", _resolve, "GET", "HEAD")


async def _create(hub: HubServer, request: Request) -> Response:
    asked, user = await request.json(), hub.user(request)
    if user is None:
        raise HTTPException(401, headers={"X-Error-Message": "Invalid username or password."})
    owner, kind = asked.get("organization") or user, asked.get("type") or "model"
    if owner != user:
        raise HTTPException(403, headers={"X-Error-Message": "You don't have the rights to create a model there"})
    repo_id = f"{owner}/{asked['name']}"
    answer = {"url": hub.url(kind, owner, asked["name"])}
    if (kind, repo_id) in hub.repositories:
        return JSONResponse(answer | {"error": "You already created this repo"}, 409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    made = Repository(
        kind, private, asked.get("sdk"), [Commit("initial commit", {".gitattributes": Blob(DEFAULT_ATTRIBUTES)})]
    )
    hub.repositories[kind, repo_id] = made
    return JSONResponse(answer)


async def _validate_card(hub: HubServer, request: Request) -> Response:
    content = (await request.json())["content"]
    errors = [] if content.startswith("---\n") else [{"message": "there is no metadata"}]
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


async def _info(hub: HubServer, request: Request) -> Response:
    found = hub.find(request)
    commit = found.find(unquote(request.path_params.get("revision", "main")))
    repo_id = f"{request.path_params['owner']}/{request.path_params['name']}"
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    about = {"id": repo_id, "sha": commit.oid, "private": found.private, "siblings": siblings, "tags": []}
    return JSONResponse(about | ({"sdk": found.sdk} if found.kind == "space" else {"downloads": 0, "likes": 0}))


async def _tree(hub: HubServer, request: Request) -> Response:
    commit = hub.find(request).find(unquote(request.path_params["revision"]))
    folder = request.path_params.get("folder", "")
    inside = {path: blob for path, blob in commit.files.items() if path.startswith(f"{folder}/" if folder else "")}
    if folder and not inside:
        raise HTTPException(404, headers={"X-Error-Code": "EntryNotFound"})
    if request.query_params.get("recursive", "").lower() != "true":
        depth = folder.count("/") + 1 if folder else 0
        inside = {path: blob for path, blob in inside.items() if path.count("/") == depth}
    return JSONResponse([inside[path].entry(path) for path in sorted(inside)])


async def _refs(hub: HubServer, request: Request) -> Response:
    found = hub.find(request)
    branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": found.head.oid}]
    tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in found.tags.items()]
    return JSONResponse({"branches": branches, "converts": [], "tags": tags})


async def _preupload(hub: HubServer, request: Request) -> Response:
    files = hub.find(request, write=True).head.files
    answers = []
    for asked in (await request.json())["files"]:
        path, there = asked["path"], files.get(asked["path"])
        mode = "lfs" if _is_large(path, asked["size"]) else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": there and there.oid})
    return JSONResponse({"files": answers})


async def _batch(hub: HubServer, request: Request) -> Response:
    hub.find(request, write=True)
    answers = []
    for asked in (await request.json())["objects"]:
        upload = {"upload": {"href": f"{hub.endpoint}/lfs/{asked['oid']}"}}
        answers.append(asked | ({} if asked["oid"] in hub.large else {"actions": upload}))
    return JSONResponse({"transfer": "basic", "objects": answers})


async def _store(hub: HubServer, request: Request) -> Response:
    content, oid = await request.body(), request.path_params["oid"]
    if hashlib.sha256(content).hexdigest() != oid:
        raise HTTPException(400)
    hub.large[oid] = content
    return Response()


async def _commit(hub: HubServer, request: Request) -> Response:
    found = hub.find(request, write=True)
    files, message, parent = dict(found.head.files), "", found.head.oid
    for line in (await request.body()).splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            message = value["summary"]
            if value.get("parentCommit", parent) != parent:
                raise HTTPException(412, headers={"X-Error-Message": "A commit has happened since"})
        elif key == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in hub.large:
                raise HTTPException(400, headers={"X-Error-Message": "LFS object is missing"})
            files[value["path"]] = Blob(hub.large[value["oid"]], large=True)
        elif key == "deletedFile":
            del files[value["path"]]
    made = Commit(message, files, parent)
    found.commits.append(made)
    url = f"{hub.url(found.kind, request.path_params['owner'], request.path_params['name'])}/commit/{made.oid}"
    return JSONResponse({"commitUrl": url, "commitOid": made.oid})


async def _tag(hub: HubServer, request: Request) -> Response:
    found, name = hub.find(request, write=True), (await request.json())["tag"]
    if name in found.tags:
        raise HTTPException(409, headers={"X-Error-Message": "Tag reference exists already"})
    found.tags[name] = found.find(unquote(request.path_params["revision"])).oid
    return Response()


async def _resolve(hub: HubServer, request: Request) -> Response:
    commit = hub.find(request).find(unquote(request.path_params["revision"]))
    blob = commit.files.get(request.path_params["path"])
    if blob is None:
        raise HTTPException(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.oid})
    return Response(blob.content, headers={"ETag": f'"{blob.oid}"', "X-Repo-Commit": commit.oid})
