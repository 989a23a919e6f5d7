"""A hub for models on this machine, and the cache that its client keeps."""

import base64
import json
import time
import urllib.parse
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

Files = dict[str, bytes]


def commit_of(files: Files) -> str:
    """Forty hex digits, as a commit has."""
    return sha1(repr([(n, sha1(c).hexdigest()) for n, c in files.items()]).encode()).hexdigest()


def files_in(folder: Path) -> Files:
    """Its files by name, folders inside left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put_in_cache(cache: Path, repository: str, files: Files, revision: str = "main") -> str:
    """Leaves files in the hub's cache as a download would: blobs, a snapshot of links, a name."""
    place = cache / f"models--{repository.replace('/', '--')}"
    commit = commit_of(files)
    snapshot = place / "snapshots" / commit
    for folder in (place / "blobs", place / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = place / "blobs" / sha1(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    (place / "refs" / revision).write_text(commit)
    return commit


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """The hub's client talks to ``address`` from now on, never sleeps, and knows nobody's token."""
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "no-token"),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept for {seconds} s"))


class FakeHub:
    """The hub's endpoints that its client asks when it reads and writes models."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], Files] = {}  # (owner/name, revision) -> files
        self.gated: set[str] = set()
        self.logins = {"Bearer hf_writer"}
        self.address = ""
        self.asked: list[str] = []
        self.created: list[dict[str, Any]] = []

    def files(self, repository: str, revision: str) -> Files | None:
        known = {key[1]: value for key, value in self.models.items() if key[0] == repository}
        by_commit = {commit_of(files): files for files in known.values()}
        return known.get(revision) or by_commit.get(revision)

    def read(self, path: str) -> "Answer":
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            repository, what = "/".join(parts[2:4]), parts[4:] or ["revision", "main"]
        else:
            repository, what = "/".join(parts[:2]), parts[2:]
        if repository in self.gated:
            return refusal(403, "GatedRepo")
        if repository not in {name for name, _ in self.models}:
            return refusal(401, "RepoNotFound")
        files = self.files(repository, what[1])
        if files is None:
            return refusal(404, "RevisionNotFound")
        if what[0] == "revision":
            siblings = [{"rfilename": name} for name in files]
            return as_json({"id": repository, "sha": commit_of(files), "siblings": siblings})
        if what[0] == "tree":
            return as_json(
                [
                    {"type": "file", "path": n, "size": len(c), "oid": sha1(c).hexdigest()}
                    for n, c in files.items()
                ]
            )
        content = files[what[2]]
        return 200, {"X-Repo-Commit": commit_of(files), "ETag": sha1(content).hexdigest()}, content

    def write(self, path: str, body: bytes, login: str | None) -> "Answer":
        if path == "/api/validate-yaml":
            return as_json({"errors": [], "warnings": []})
        if login not in self.logins:
            return refusal(401, "")
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            name = f"{self.created[-1]['organization']}/{self.created[-1]['name']}"
            self.models.setdefault((name, "main"), {".gitattributes": b""})
            return as_json({"url": f"{self.address}/{name}"})
        *_, owner, model_, verb, revision = path.split("/")
        if verb == "branch":
            self.models[f"{owner}/{model_}", revision] = {}
            return as_json({})
        if (f"{owner}/{model_}", revision) not in self.models:
            return refusal(404, "RevisionNotFound")
        if verb == "preupload":
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return as_json({"files": [f | modes for f in json.loads(body)["files"]]})
        files = self.models[f"{owner}/{model_}", revision]
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        page = f"{self.address}/{owner}/{model_}/commit/{commit_of(files)}"
        return as_json({"success": True, "commitOid": commit_of(files), "commitUrl": page})


Answer = tuple[int, dict[str, str], bytes]


def as_json(content: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def refusal(status: int, code: str) -> Answer:
    return status, {"X-Error-Code": code, "X-Error-Message": "Sorry, no."}, b"{}"


def handler(fake: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            fake.asked.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            login = self.headers.get("Authorization")
            writes = self.command == "POST"
            status, headers, content = fake.write(path, body, login) if writes else fake.read(path)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = respond

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
