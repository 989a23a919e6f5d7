"""Headers and addresses of the pages."""

import re
from pathlib import Path

import httpx
import pytest

from app.http.page import STATIC

pytestmark = pytest.mark.integration


def test_the_page_comes_with_a_policy_that_keeps_out_everything_foreign(
    client: httpx.Client,
) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("img-src") == "'self' blob: data:"
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert rules[name] == "'none'"


@pytest.mark.parametrize("path", ["/", "/docs", "/static/main.js"])
def test_pages_and_files_are_guarded_and_asked_for_again_by_their_tag(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    other = client.get(path, headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("base.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_the_types_that_browsers_insist_on(
    client: httpx.Client, path: str, kind: str
) -> None:
    assert client.get(f"/static/{path}").headers["content-type"] == kind


@pytest.mark.parametrize(
    "path",
    [
        "/static/../index.html",
        "/static/%2e%2e/index.html",
        "/static/%2e%2e%2f%2e%2e%2fpage.py",
        "/static//etc/passwd",
        "/static/",
        "/static/vendor",
        "/redoc",
    ],
)
def test_nothing_but_the_files_is_given_away(client: httpx.Client, path: str) -> None:
    url = client.base_url.copy_with(raw_path=path.encode())
    answer = client.get(url)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_the_pages_name_the_version_of_the_service(client: httpx.Client) -> None:
    version = client.get("/openapi.json").json()["info"]["version"]
    assert f"agiqa {version}" in client.get("/").text
    assert f"agiqa {version}" in client.get("/docs").text


def sources() -> list[Path]:
    return [p for p in STATIC.rglob("*.*") if p.suffix in {".html", ".css", ".js"}]


def ours() -> list[Path]:
    return [path for path in sources() if "vendor" not in path.parts]


def test_no_page_script_or_style_of_ours_names_another_host_or_stands_inside_the_markup() -> None:
    assert ours()
    for path in ours():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text), path


def test_every_file_that_is_loaded_is_there_and_small() -> None:
    for path in ours():
        for named in re.findall(r'from "\./([\w-]+\.js)"', path.read_text()):
            assert (path.parent / named).is_file(), f"{path.name} imports {named}"
        for named in re.findall(r'"static/([\w./-]+)"', path.read_text()):
            assert (STATIC / "assets" / named).is_file(), f"{path.name} names {named}"
        assert len(path.read_text().splitlines()) <= 400, path
    for path in STATIC.rglob("*"):
        assert path.is_dir() or path.stat().st_size < 2_000_000, path
