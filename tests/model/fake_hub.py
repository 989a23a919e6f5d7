"""A hub for models on this machine."""

import base64
import json
import urllib.parse
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.model.clip.test_sources import Files, commit_of


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
