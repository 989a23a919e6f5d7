"""Models are loaded again while they serve: no request is dropped, none is scored by a mixture."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from app.batching.errors import ReloadFailed
from model.seal import seal
from model.store.checkpoint import PARAMETERS, read_config, without_digests, write_config
from tests.app.fake_device import SETTINGS, FakeDevice, run, served
from tests.app.miniatures import generated_image_model
from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving

IMAGE = encoded(picture(500, 400))
OPERATOR = {"Authorization": "Bearer operator"}
CLIENT = {"Authorization": "Bearer client"}


def revise(folder: Path, revision: str, change: float) -> None:
    """Other weights under another revision, sealed: a newer checkpoint of the same name."""
    tensors = load_file(folder / PARAMETERS)
    save_file({name: t * (1 + change) for name, t in tensors.items()}, folder / PARAMETERS)
    config = without_digests(read_config(folder))
    write_config(folder, config.model_copy(update={"revision": revision}))
    seal(folder)


def answer(running: Running) -> dict[str, Any]:
    response = running.client.post("/score", files={"image": IMAGE}, headers=CLIENT)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def reload(running: Running, headers: dict[str, str] = OPERATOR) -> httpx.Response:
    return running.client.post("/models/generated/reload", headers=headers)


@contextmanager
def traffic(running: Running, threads: int = 3) -> Iterator[list[dict[str, Any]]]:
    """Images without a pause; any answer but a score fails at the end."""
    answers: list[dict[str, Any]] = []
    faults: list[BaseException] = []
    over = threading.Event()

    def send() -> None:
        try:
            while not over.is_set():
                answers.append(answer(running))
        except BaseException as error:  # noqa: BLE001 - it is raised where the test sees it
            faults.append(error)

    senders = [threading.Thread(target=send) for _ in range(threads)]
    for sender in senders:
        sender.start()
    try:
        yield answers
    finally:
        over.set()
        for sender in senders:
            sender.join(60)
    if faults:
        raise faults[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("service")
    folder = generated_image_model(place / "generated")
    seal(folder)
    environment = {
        "AGIQA_MODELS": str(folder),
        "AGIQA_API_KEYS": "client",
        "AGIQA_ADMIN_KEYS": "operator",
    }
    with serving(place, environment) as running:
        yield running


@pytest.fixture
def folder(running: Running) -> Path:
    return running.log.parent / "generated"


@pytest.mark.integration
def test_under_traffic_no_request_is_dropped_and_each_is_scored_by_one_revision(
    running: Running, folder: Path
) -> None:
    before = answer(running)
    with traffic(running) as answers:
        running.wait_until(lambda: len(answers) > 5)
        revise(folder, "second", 0.2)
        response = reload(running)
        assert response.status_code == 200, response.text
        assert response.json()["revision"] == "second"
        after = answer(running)
        seen = len(answers)
        running.wait_until(lambda: len(answers) > seen + 5)
    assert abs(after["quality"] - before["quality"]) > 1e-3
    wanted = {a["model"]["revision"]: a["quality"] for a in (before, after)}
    assert wanted.keys() == {before["model"]["revision"], "second"}
    for found in answers:
        assert found["quality"] == pytest.approx(wanted[found["model"]["revision"]], abs=1e-5)
    assert running.metric("agiqa_model_info", revision="second") == 1
    assert running.metric("agiqa_worker_restarts_total") == 0
    assert len(running.worker_pids) == 1


@pytest.mark.integration
def test_a_broken_checkpoint_is_refused_with_its_fault_and_the_model_stays(
    running: Running, folder: Path, tmp_path: Path
) -> None:
    before = answer(running)
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    (folder / PARAMETERS).write_bytes((folder / PARAMETERS).read_bytes()[:2000])
    with traffic(running, 1):
        response = reload(running)
    assert response.status_code == 409
    assert response.json()["code"] == "reload_failed"
    assert "model.safetensors is not the file that" in response.json()["detail"]
    assert "SHA-256" in response.json()["detail"]
    assert answer(running) == before
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    assert reload(running).status_code == 200
    assert answer(running) == before


@pytest.mark.integration
def test_a_checkpoint_under_another_name_is_refused(running: Running, folder: Path) -> None:
    config = read_config(folder)
    write_config(folder, config.model_copy(update={"name": "other"}))
    response = reload(running)
    write_config(folder, config)
    assert response.status_code == 409
    assert "names it 'other' now" in response.json()["detail"]


@pytest.mark.integration
@pytest.mark.parametrize("headers", [{}, CLIENT, {"Authorization": "Bearer operators"}])
def test_without_an_operators_key_nothing_is_loaded(
    headers: dict[str, str], running: Running
) -> None:
    response = reload(running, headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.integration
def test_a_model_that_is_not_loaded_can_not_be_loaded_again(running: Running) -> None:
    response = running.client.post("/models/tiny-mpiqe/reload", headers=OPERATOR)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_model")


@pytest.mark.integration
def test_after_a_restart_of_the_worker_what_lies_there_now_serves_as_a_whole(
    running: Running, folder: Path
) -> None:
    before = answer(running)
    revise(folder, "third", 0.2)
    (worker,) = running.worker_pids
    os.kill(worker, signal.SIGKILL)
    running.wait_until(lambda: running.worker_pids not in ([], [worker]))
    running.wait_until_ready()
    after = answer(running)
    assert after["model"]["revision"] == "third"
    assert abs(after["quality"] - before["quality"]) > 1e-3
    (listed,) = running.client.get("/models", headers=CLIENT).json()["models"]
    assert listed["revision"] == "third"
    assert running.metric("agiqa_model_info", revision="second") == 0


def test_without_admin_keys_the_address_says_how_to_open_it() -> None:
    async def test() -> None:
        async with served(FakeDevice()) as service:
            response = await service.client.post("/models/fake/reload", headers=OPERATOR)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
            assert "AGIQA_ADMIN_KEYS" in response.json()["detail"]

    run(test)


def test_what_keeps_a_model_from_being_loaded_again_is_the_operators_to_read() -> None:
    settings = SETTINGS.model_copy(update={"admin_keys": ("operator",)})
    device = FakeDevice()

    async def test() -> None:
        async with served(device, settings) as service:
            device.reload_error = ReloadFailed("the disk is gone")
            response = await service.client.post("/models/fake/reload", headers=OPERATOR)
            assert response.status_code == 409
            assert response.json()["detail"] == "the disk is gone"
            assert (await service.post()).status_code == 200

    run(test)
