"""``agiqa doctor``: finds what is wrong, and says what to do."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import doctor
from app.cli.doctor import Finding, examine
from app.cli.main import main
from app.device import arena
from app.settings import Settings
from model import diagnosis
from tests.app.server import Running, free_port


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["doctor", *(str(a) for a in arguments)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without importing open_clip, which takes seconds."""
    monkeypatch.setattr(diagnosis, "import_open_clip", lambda: "3.3.0")


def found(check: str, **settings: object) -> Finding:
    chosen = Settings.model_validate({"models": ("tiny-mpiqe",), "port": free_port(), **settings})
    (finding,) = [f for f in examine(chosen) if f.check.startswith(check)]
    return finding


def test_a_sound_installation_has_no_fault() -> None:
    result = run("--port", free_port())
    assert result.exit_code == 0, result.output
    assert "FAULT" not in result.output
    for check in ("torch", "device", "open_clip", "checkpoint tiny-mpiqe", "decoders", "port"):
        assert f"  {check}" in result.output
    assert result.output.endswith("the service can run: agiqa serve\n")


def test_findings_can_be_read_by_programs(quick: None) -> None:
    result = run("--port", free_port(), "--model", "tiny-clip-agiqa", "--json")
    findings = json.loads(result.output)["findings"]
    assert {f["check"] for f in findings} >= {"torch", "checkpoint tiny-clip-agiqa", "decoders"}
    (scored,) = [f for f in findings if f["check"].startswith("checkpoint")]
    assert "quality, alignment, consistency" in scored["found"]


@pytest.mark.parametrize(
    ("arguments", "check", "sentence"),
    [
        (["--model", "nothing"], "checkpoint nothing", "no checkpoint 'nothing'"),
        (["--device", "cuda:7"], "torch", "can't use cuda:7"),
        (["--device", "toaster"], "torch", "can't use toaster"),
        (["--host", "203.0.113.7"], "port", "no such address"),
    ],
    ids=["model", "gpu", "device", "host"],
)
def test_a_fault_is_named_with_its_remedy_and_the_exit_code_says_so(
    quick: None, arguments: list[str], check: str, sentence: str
) -> None:
    result = run("--port", free_port(), "--json", *arguments)
    assert result.exit_code == 1, result.output
    (fault,) = [f for f in json.loads(result.output)["findings"] if f["verdict"] == "fault"]
    assert fault["check"].startswith(check)
    assert sentence in fault["found"] + fault["remedy"]
    assert fault["remedy"]


def test_a_damaged_checkpoint_is_a_fault(quick: None, bundled: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((bundled / "config.json").read_bytes())
    assert found("checkpoint", models=(str(damaged),)).verdict == "fault"


def test_a_torch_that_cannot_be_imported_is_the_first_fault(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: str) -> diagnosis.Torch:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(diagnosis, "torch_facts", broken)
    finding = found("torch")
    assert finding.verdict == "fault"
    assert "libcudart" in finding.found
    assert "make clean" in finding.remedy


def test_a_torchvision_that_does_not_match_is_a_warning_with_the_words_of_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "RuntimeError: operator torchvision::nms does not exist"

    def broken() -> str:
        raise ImportError(words)

    monkeypatch.setattr(diagnosis, "import_open_clip", broken)
    finding = found("open_clip")
    assert finding.verdict == "warning"
    assert words in finding.found


def test_a_missing_decoder_is_named(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "undecodable", lambda: {"AVIF": "encoder not available"})
    assert found("decoders").verdict == "warning"
    monkeypatch.setattr(diagnosis, "undecodable", lambda: {"WEBP": "encoder not available"})
    finding = found("decoders")
    assert finding.verdict == "fault"
    assert "not WEBP" in finding.found


def test_every_decoder_is_tried_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnosis.undecodable() == {}
    assert set(diagnosis.undecodable(("JPEG", "NONE"))) == {"NONE"}


def test_shared_memory_that_is_not_there_is_a_fault(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int) -> None:
        raise arena.ArenaError("/dev/shm can't hold 256 MiB: enlarge it")

    monkeypatch.setattr(doctor, "Arena", refuse)
    finding = found("shared memory")
    assert (finding.verdict, finding.remedy) == ("fault", "enlarge it")


def test_a_port_that_is_taken_by_something_else_is_a_fault(quick: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        finding = found("port", port=other.getsockname()[1])
    assert finding.verdict == "fault"
    assert "choose another port" in finding.remedy


def test_a_service_of_ours_on_the_port_is_told(quick: None, service: Running) -> None:
    finding = found("port", port=int(service.url.rpartition(":")[2]))
    assert finding.verdict == "warning"
    assert "agiqa" in finding.found


def test_more_threads_than_cores_are_told(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    finding = found("device", threads=8, device="cpu")
    assert finding.verdict == "warning"
    assert finding.remedy == "set AGIQA_THREADS=1"


def test_settings_that_cannot_be_used_are_told_as_by_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGIQA_PROT", "1")
    result = run()
    assert result.exit_code == 1
    assert "AGIQA_PROT: unknown setting" in result.output


def test_a_file_of_keys_that_would_keep_the_service_from_starting_is_a_fault(
    tmp_path: Path, quick: None
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nname = "gallery"\nsha256 = "{"0" * 64}"\n')
    assert found("keys", keys_file=file) == Finding("keys", "ok", f"1 in {file}")
    file.write_text('[[keys]]\nname = "gallery"\n')
    fault = found("keys", keys_file=file)
    assert fault.verdict == "fault"
    assert "'gallery'" in fault.found
    assert "agiqa key" in fault.remedy


def test_several_workers_are_looked_at_device_by_device(quick: None) -> None:
    shown = found("device", device="cpu,cpu", threads=1000)
    assert "2 workers, 1000 threads each" in shown.found
    assert (shown.verdict, shown.remedy.startswith("set AGIQA_THREADS=")) == ("warning", True)
    fault = found("device toaster", device="cpu,toaster")
    assert (fault.verdict, "can't use toaster" in fault.found) == ("fault", True)
