"""What docs/operations.md tells a cluster, a proxy and Prometheus to do fits the service."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.settings import PREFIX

from .dockerfile import ROOT
from .monitoring import dashboard_queries
from .test_compose import DEFAULTS

PAGE = ROOT / "docs/operations.md"
TEXT = PAGE.read_text()


def _block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    assert [name.lower() for name in rows] == list(DEFAULTS)
    for name, documented in rows.items():
        default = DEFAULTS[name.lower()]
        if isinstance(default, tuple):
            assert documented == (",".join(default) or "none")
        elif isinstance(default, float):
            assert documented == f"{default:g}"
        # These depend on the machine.
        elif name not in {"WORKERS", "THREADS", "DECODE_WORKERS", "MAX_BATCH_ROWS"}:
            assert documented == ("none" if default is None else str(default))


def test_the_pictures_are_of_panels_that_the_dashboard_has_and_are_shown() -> None:
    pytest.importorskip("playwright", reason="needs playwright: make test installs it")
    from .screenshots import SHOTS

    pictures = {picture.name: picture for picture in (PAGE.parent / "images").glob("prometheus-*")}
    assert set(SHOTS) == set(pictures)
    for name, picture in pictures.items():
        assert f"(images/{name})" in TEXT
        assert picture.stat().st_size < 150_000
        assert {panel for panel, _ in SHOTS[name]} <= set(dashboard_queries())


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs the program promtool: apt-get install prometheus"
)
def test_prometheus_accepts_the_way_to_the_pods(tmp_path: Path) -> None:
    config = yaml.safe_load(_block("yaml", "scrape_configs"))
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "agiqa"
    # Debian builds Prometheus without the clouds.
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
