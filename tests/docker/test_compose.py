import ipaddress
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from app.settings import PREFIX, Settings

from .dockerfile import ROOT, instructions, only

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AGIQA = SERVICES["agiqa"]
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


def _mounts(service: str) -> dict[str, str]:
    """Where in the container -> what is there; defaults of variables filled in."""
    found = {}
    for mount in SERVICES[service].get("volumes", []):
        source, target, *_ = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")
        found[target] = source
    return found


def _behind(service: str, path: str) -> Path:
    """The file of the repository that the service sees at a path."""
    for target, source in _mounts(service).items():
        if PurePosixPath(path).is_relative_to(target):
            return ROOT / source / PurePosixPath(path).relative_to(target)
    raise AssertionError(f"{service} sees nothing of the repository at {path}")


def _container_ports(service: str) -> list[str]:
    return [port.split(":")[-1] for port in SERVICES[service]["ports"]]


def _settings_in(service: dict[str, Any]) -> set[str]:
    return {n.removeprefix(PREFIX).lower() for n in service["environment"] if n.startswith(PREFIX)}


@pytest.mark.parametrize("service", SERVICES)
def test_every_mounted_path_exists_and_every_volume_is_declared(service: str) -> None:
    for source in _mounts(service).values():
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_services_depend_on_services_that_exist(service: str) -> None:
    assert set(SERVICES[service].get("depends_on", [])) <= set(SERVICES)


@pytest.mark.parametrize("service", ["nginx", "prometheus", "grafana"])
def test_images_of_others_are_pinned_to_a_release(service: str) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_shared_memory_holds_the_crops_and_room_to_spare() -> None:
    size = re.fullmatch(r"(\d+)m", AGIQA["shm_size"])
    assert size is not None
    assert int(size[1]) >= DEFAULTS["max_crop_mib"] + 16


def test_docker_waits_until_the_service_has_drained() -> None:
    patience = int(AGIQA["stop_grace_period"].removesuffix("s"))
    assert patience >= DEFAULTS["drain_delay_seconds"] + DEFAULTS["drain_seconds"] + 5


@pytest.mark.parametrize("service", [AGIQA, GPU["services"]["agiqa"]], ids=["cpu", "gpu"])
def test_the_environment_names_only_settings_that_exist(service: dict[str, Any]) -> None:
    assert _settings_in(service) <= set(DEFAULTS)


def test_checkpoints_and_configuration_are_mounted_read_only() -> None:
    binds = [m for s in SERVICES.values() for m in s["volumes"] if m.startswith((".", "$"))]
    assert binds
    assert all(mount.endswith(":ro") for mount in binds)


def test_the_default_build_has_no_cuda_and_the_gpu_build_has() -> None:
    declared = {i.rest.partition("=")[0] for i in instructions() if i.verb == "ARG"}
    plain, gpu = AGIQA["build"]["args"], GPU["services"]["agiqa"]["build"]["args"]
    assert {*plain, *gpu} <= declared
    assert plain["TORCH_INDEX"] == "https://download.pytorch.org/whl/cpu"
    assert gpu["TORCH_INDEX"] == ""


def test_the_gpu_file_only_changes_the_service_and_reserves_an_nvidia_gpu() -> None:
    assert set(GPU["services"]) == {"agiqa"}
    override = GPU["services"]["agiqa"]
    (device,) = override["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert "gpu" in device["capabilities"]
    assert override["environment"] == {"AGIQA_DEVICE": "cuda"}
    assert override["image"] != AGIQA["image"]


def test_prometheus_scrapes_all_replicas_at_the_port_that_the_service_listens_on() -> None:
    config = yaml.safe_load(_behind("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["type"]) == (["agiqa"], "A")
    assert str(found["port"]) == only("EXPOSE").rest == str(DEFAULTS["port"])
    assert config["global"]["scrape_interval"] == found["refresh_interval"] == "5s"


def test_nginx_sends_to_all_replicas_at_the_port_that_the_service_listens_on() -> None:
    text = _behind("nginx", "/etc/nginx/conf.d/default.conf").read_text()
    assert re.findall(r"^    server (\S+) resolve", text, re.MULTILINE) == [
        f"agiqa:{DEFAULTS['port']}"
    ]
    assert re.findall(r"^    listen (\d+);", text, re.MULTILINE) == _container_ports("nginx")


def test_nothing_of_the_service_is_there_only_once() -> None:
    assert not {"ports", "container_name"} & set(AGIQA)


def test_clients_share_by_their_own_addresses_which_nginx_tells() -> None:
    setting = AGIQA["environment"]["AGIQA_FORWARDED_ALLOW_IPS"]
    networks = setting.removeprefix("${AGIQA_FORWARDED_ALLOW_IPS:-").removesuffix("}")
    allowed = Settings(forwarded_allow_ips=networks).forwarded_allow_ips
    for inside in ("172.18.0.3", "192.168.96.2"):  # where Docker puts its networks
        assert any(
            ipaddress.ip_address(inside) in ipaddress.ip_network(network) for network in allowed
        )


def test_prometheus_finds_its_rules_where_its_configuration_looks() -> None:
    config = yaml.safe_load(_behind("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    assert config["rule_files"]
    for file in config["rule_files"]:
        assert _behind("prometheus", f"/etc/prometheus/{file}").is_file()


def test_grafana_reads_from_the_prometheus_beside_it() -> None:
    folder = _behind("grafana", "/etc/grafana/provisioning/datasources")
    (source,) = yaml.safe_load((folder / "prometheus.yml").read_text())["datasources"]
    service, port = source["url"].removeprefix("http://").split(":")
    assert service in SERVICES["grafana"]["depends_on"]
    assert _container_ports(service) == [port]


def test_grafana_finds_its_dashboard_and_opens_with_it() -> None:
    folder = _behind("grafana", "/etc/grafana/provisioning/dashboards")
    (provider,) = yaml.safe_load((folder / "agiqa.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home).parent == PurePosixPath(provider["options"]["path"])
    assert _behind("grafana", home).is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_confined_and_reached_from_this_machine_alone(service: str) -> None:
    container = SERVICES[service]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]  # and the default seccomp
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(container)
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))


def test_the_service_can_write_nothing_but_memory_and_its_cache() -> None:
    assert AGIQA["read_only"]
    assert AGIQA["user"] == only("USER").rest
    writable = {target for target, source in _mounts("agiqa").items() if not source.startswith(".")}
    assert writable == {"/home/agiqa/.cache"}
    assert [mount.partition(":")[0] for mount in AGIQA["tmpfs"]] == ["/tmp"]


def test_memory_holds_what_the_service_and_its_decode_workers_may_take() -> None:
    limit = int(AGIQA["mem_limit"].removesuffix("g")) * 1024
    assert AGIQA["memswap_limit"] == AGIQA["mem_limit"]
    models = 700  # as docs/operations.md has it measured
    assert limit >= models + DEFAULTS["max_crop_mib"] + 2 * DEFAULTS["max_decode_mib"]


def test_other_containers_and_this_machine_may_call_the_service_by_their_names() -> None:
    names = AGIQA["environment"]["AGIQA_ALLOWED_HOSTS"].removeprefix("${AGIQA_ALLOWED_HOSTS:-")
    assert set(names.removesuffix("}").split(",")) == {"agiqa", *Settings(host="127.0.0.1").hosts}
