from pathlib import Path
from typing import Any

import pytest

from app import settings
from app.settings import Settings, SettingsError, load_settings


def test_flags_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agiqa.toml"
    file.write_text('host = "file"\nport = 1\ndeadline_seconds = 3.5\n')
    monkeypatch.setenv("AGIQA_PORT", "2")
    monkeypatch.setenv("AGIQA_HOST", "environment")
    loaded = load_settings({"host": "flag", "port": None}, file)
    assert (loaded.host, loaded.port, loaded.deadline_seconds) == ("flag", 2, 3.5)
    assert loaded.max_rows == Settings.model_fields["max_rows"].default


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGIQA_MODELS", "one, two")
    monkeypatch.setenv("AGIQA_API_KEYS", "secret")
    loaded = load_settings()
    assert loaded.models == ("one", "two")
    assert loaded.api_keys == ("secret",)


def test_unknown_keys_are_errors_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agiqa.toml"
    file.write_text("prot = 1\n")
    monkeypatch.setenv("AGIQA_HOTS", "x")
    with pytest.raises(SettingsError, match=r"(?s)AGIQA_HOTS.*prot"):
        load_settings({}, file)


def test_every_unfitting_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGIQA_PORT", "many")
    monkeypatch.setenv("AGIQA_DTYPE", "float8")
    with pytest.raises(SettingsError, match=r"(?s)port.*dtype|dtype.*port"):
        load_settings()


def test_a_photograph_model_and_a_generated_image_model_are_loaded_by_default() -> None:
    assert load_settings().models == ("tiny-mpiqe", "tiny-clip-agiqa")


def test_the_key_of_clients_is_not_taken_for_the_service_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGIQA_API_KEY", "secret")
    with pytest.raises(SettingsError, match=r"AGIQA_API_KEY: .*takes AGIQA_API_KEYS") as refusal:
        load_settings()
    assert "secret" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        load_settings({}, tmp_path / "nowhere.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_keys_that_are_set_but_hold_none_are_an_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AGIQA_API_KEYS", value)
    with pytest.raises(SettingsError, match=r"api_keys: .*it is set, but holds no key"):
        load_settings()


def test_an_empty_key_in_a_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "agiqa.toml"
    file.write_text('api_keys = ["secret", ""]\n')
    with pytest.raises(SettingsError, match=r"api_keys: .*an empty one"):
        load_settings({}, file)


def test_the_former_name_of_the_decode_workers_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGIQA_DECODE_THREADS", "3")
    assert load_settings().decode_workers == 3
    monkeypatch.setenv("AGIQA_DECODE_WORKERS", "5")
    assert load_settings().decode_workers == 5


@pytest.mark.parametrize(
    ("cores", "gib", "workers"), [(2, 3, 2), (64, 256, 8), (8, 3, 3), (8, 0.5, 1)]
)
def test_decode_workers_fit_the_cores_and_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, gib: float, workers: int
) -> None:
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    monkeypatch.setattr(settings, "usable_memory", lambda: int(gib * 2**30))
    assert Settings().decode_workers == workers


def test_a_proxy_that_is_trusted_is_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGIQA_FORWARDED_ALLOW_IPS", "10.0.0.0/8, 192.0.2.1")
    assert load_settings().forwarded_allow_ips == ("10.0.0.0/8", "192.0.2.1")
    monkeypatch.setenv("AGIQA_FORWARDED_ALLOW_IPS", "proxy.example.org")
    with pytest.raises(SettingsError, match="forwarded_allow_ips"):
        load_settings()


@pytest.mark.parametrize(
    ("device", "workers", "threads", "cores", "expected"),
    [
        ("auto", 1, None, 8, (("auto",), None)),
        ("cuda:0, cuda:1", 1, None, 8, (("cuda:0", "cuda:1"), None)),
        ("cpu", 4, None, 8, (("cpu",) * 4, 2)),
        ("cpu,cpu", 2, None, 2, (("cpu",) * 4, 1)),
        ("cpu", 2, 3, 2, (("cpu",) * 2, 3)),
        ("cpu,cuda:0", 1, None, 8, (("cpu", "cuda:0"), None)),
    ],
)
def test_each_device_has_its_workers_and_those_on_the_cpu_share_its_cores(
    device: str,
    workers: int,
    threads: int | None,
    cores: int,
    expected: tuple[tuple[str, ...], int | None],
) -> None:
    settings = Settings(device=device, workers=workers, threads=threads)
    assert (settings.worker_devices, settings.worker_threads(cores)) == expected


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 4),
        ({"device": "cpu"}, 4),
        ({"device": "cuda"}, 1),
        ({"device": "cpu,cpu"}, 1),
        ({"workers": 2}, 1),
        ({"threads": 2}, 1),
    ],
)
def test_workers_share_a_cpu_only_where_nobody_set_how_many_there_are(
    settings: dict[str, Any], most: int
) -> None:
    assert Settings(**settings).most_workers(4) == most
    assert len(Settings(**settings).worker_devices) == (settings.get("workers") or 1) + (
        "," in settings.get("device", "")
    )


@pytest.mark.parametrize("device", ["", "cuda:0,", "auto,cpu"])
def test_a_list_of_devices_that_names_none_is_an_error(device: str) -> None:
    with pytest.raises(SettingsError, match="auto stands alone"):
        load_settings({"device": device})
