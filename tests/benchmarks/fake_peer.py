"""A server that answers how large an upload is, for the load that measures servers."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.peers.setups import Setup


def quality(upload: bytes) -> float:
    """In [0, 1] for all that tests send."""
    return len(upload) / 1e6


class Handler(BaseHTTPRequestHandler):
    """Keeps connections; reads forms of one file, as clients send them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        upload = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] != "image/jpeg":
            upload = upload.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        body = json.dumps({"quality": quality(upload)}).encode()
        self.send_response(200 if self.path == "/score" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", Setup.from_environment().port), Handler).serve_forever()
