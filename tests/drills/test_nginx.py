"""The documented configuration with other replicas, and nothing else changed."""

import pytest

from benchmarks.drills.nginx import adapted

TEXT = """upstream agiqa {
    least_conn;
    resolver 127.0.0.11 valid=5s;
    server agiqa:8000 resolve max_fails=0;
    server 10.0.0.2:8000 max_fails=0;
    # server 10.0.0.3:8000;
    keepalive 32;
}
server {
    listen 8080;
    server_name agiqa.example.org;
    location / {
        proxy_next_upstream error;
    }
}
"""


def test_replicas_and_port_are_replaced_and_all_else_stays() -> None:
    lines = adapted(TEXT, ["http://127.0.0.1:1001", "http://127.0.0.1:1002"], 999).splitlines()
    assert lines[2:4] == [
        "    server 127.0.0.1:1001 max_fails=0;",
        "    server 127.0.0.1:1002 max_fails=0;",
    ]
    assert "    listen 127.0.0.1:999;" in lines
    untouched = ("10.0.0.2", "listen", "resolve")
    assert [line for line in TEXT.splitlines() if not any(word in line for word in untouched)] == [
        line for line in lines if not any(word in line for word in ("127.0.0.1", "listen"))
    ]


def test_a_configuration_without_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="no replica"):
        adapted("events {}", ["http://127.0.0.1:1001"], 999)
