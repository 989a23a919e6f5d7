"""The documented nginx in front of several services, where there is an nginx."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.drills.processes import wait_for
from tests.app.server import free_port

CONFIGURATION = Path(__file__).parents[2] / "docker" / "nginx" / "agiqa.conf"
_START_SECONDS = 10.0
_MAIN = """{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/agiqa.conf;
}}
"""


def missing() -> str:
    """Why there is no nginx to start; empty where there is."""
    if shutil.which("nginx") is None:
        return "there is no nginx here (apt-get install nginx-light)"
    return "" if CONFIGURATION.is_file() else f"there is no {CONFIGURATION.name}"


@contextmanager
def before(urls: Sequence[str], folder: Path) -> Iterator[str]:
    """Starts nginx with the documented configuration, its replicas and its port replaced; gives its
    address.

    Raises:
        RuntimeError: it does not start.
    """
    folder.mkdir(parents=True)
    port = free_port()
    (folder / "agiqa.conf").write_text(adapted(CONFIGURATION.read_text(), urls, port))
    # Its workers become somebody else when root starts it, who may not write into our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        if wait_for(lambda: _answers(url), _START_SECONDS) is None:
            raise RuntimeError((folder / "output").read_text())
        yield url
    finally:
        process.terminate()
        process.wait(10)


def adapted(text: str, urls: Sequence[str], port: int) -> str:
    """The configuration with other replicas, which no name server is asked for, another port and no
    TLS; all else as documented.

    Raises:
        ValueError: it names no replica.
    """
    lines, replaced = [], False
    for line in text.splitlines():
        if match := re.match(r"(\s*)server\s+[^\s;{]+([^;{]*);", line):
            places = () if replaced else urls
            options = match[2].replace(" resolve", "")
            lines += [f"{match[1]}server {urlsplit(url).netloc}{options};" for url in places]
            replaced = True
        elif re.match(r"\s*listen\s", line):
            lines.append(re.sub(r"listen\s+[^;]+", f"listen 127.0.0.1:{port}", line))
        elif not re.match(r"\s*(ssl_certificate|resolver\s)", line):
            lines.append(line)
    if not replaced:
        raise ValueError("the configuration names no replica")
    return "\n".join(lines) + "\n"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
