"""What docs/operations.md tells a cluster, a proxy and Prometheus to do fits the service."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.main import create_app
from app.settings import PREFIX, Settings

from .dockerfile import ROOT
from .monitoring import dashboard_queries
from .test_compose import AGIQA, DEFAULTS

PAGE = ROOT / "docs/operations.md"
TEXT = PAGE.read_text()


def _block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


DEPLOYMENT, SERVICE = yaml.safe_load_all(_block("yaml", "kind: Deployment"))
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {one["name"].removeprefix(PREFIX).lower(): one["value"] for one in CONTAINER["env"]}


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    assert [name.lower() for name in rows] == list(DEFAULTS)
    for name, documented in rows.items():
        default = DEFAULTS[name.lower()]
        if isinstance(default, tuple):
            assert documented == (",".join(default) or "none")
        elif isinstance(default, float):
            assert documented == f"{default:g}"
        elif name not in {"THREADS", "DECODE_WORKERS"}:  # they depend on the machine
            assert documented == ("none" if default is None else str(default))


def test_the_probes_ask_addresses_that_need_no_key() -> None:
    settings = Settings(models=("tiny-mpiqe",), api_keys=("secret",), max_crop_mib=1)
    addresses = set(create_app(settings).openapi()["paths"])
    asked = {name: CONTAINER[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in asked.values()] == ["/livez", "/readyz"]
    assert {probe["path"] for probe in asked.values()} <= addresses
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert {ports[probe["port"]] for probe in asked.values()} == {DEFAULTS["port"]}


def test_the_pod_is_given_the_memory_and_the_time_that_the_service_takes() -> None:
    (volume,) = [v for v in POD["volumes"] if v["name"] == CONTAINER["volumeMounts"][0]["name"]]
    assert CONTAINER["volumeMounts"][0]["mountPath"] == "/dev/shm"
    assert volume["emptyDir"]["medium"] == "Memory"
    shared = int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi"))
    assert shared >= DEFAULTS["max_crop_mib"] + 16
    delay = float(ENVIRONMENT["drain_delay_seconds"])
    assert POD["terminationGracePeriodSeconds"] >= delay + DEFAULTS["drain_seconds"] + 5 + 5
    readiness = CONTAINER["readinessProbe"]
    assert delay > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_pod_sets_settings_that_exist_and_as_many_threads_as_it_has_cores() -> None:
    assert set(ENVIRONMENT) <= set(DEFAULTS)
    cores = CONTAINER["resources"]["requests"]["cpu"]
    assert ENVIRONMENT["threads"] == ENVIRONMENT["decode_workers"] == cores


def test_the_service_finds_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert SERVICE["spec"]["selector"] == DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels


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


def test_the_pod_is_confined_as_the_container_of_compose_is() -> None:
    assert POD["automountServiceAccountToken"] is False
    whole, own = POD["securityContext"], CONTAINER["securityContext"]
    user = f"{whole['runAsUser']}:{whole['runAsGroup']}"
    assert user == AGIQA["user"]
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": AGIQA["cap_drop"]}
    places = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert set(places.values()) == {"/dev/shm", "/tmp", "/home/agiqa/.cache"}
    assert set(places) == {volume["name"] for volume in POD["volumes"]}
    assert CONTAINER["resources"]["limits"]["memory"].removesuffix("Gi") == AGIQA[
        "mem_limit"
    ].removesuffix("g")


def test_the_pods_are_guarded_from_the_cluster_and_stay_while_nodes_are_drained() -> None:
    budget, policy = yaml.safe_load_all(_block("yaml", "kind: NetworkPolicy"))
    labels = DEPLOYMENT["spec"]["selector"]["matchLabels"]
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert 0 < budget["spec"]["minAvailable"] < DEPLOYMENT["spec"]["replicas"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["spec"]["egress"] == []
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"]
    (port,) = rule["ports"]
    assert port["port"] in {one["name"] for one in CONTAINER["ports"]}
