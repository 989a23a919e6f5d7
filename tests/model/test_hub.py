"""Checkpoints on the Hugging Face hub: downloaded from and pushed to a hub that runs here."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

import model
from model.clip.weights import sha256_of
from model.config import BackboneConfig
from model.errors import CheckpointError
from model.hub import download
from model.scorer import Scorer
from model.store.checkpoint import read_config, without_digests, write_config, write_weights
from model.store.publish import push
from tests.model import tiny
from tests.model.clip.test_sources import PICTURE
from tests.model.fake_hub import FakeHub, files_in, handler, use_hub

OWN = {"config.json", "model.safetensors", "backbone.safetensors", "README.md", "metrics.json"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub at an address of this machine, a cache, and a login."""
    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    fake.address = f"http://127.0.0.1:{server.server_port}"
    use_hub(monkeypatch, fake.address, tmp_path / "cache")
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    yield fake
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


def quality(name: str | Path) -> float | None:
    return model.load(str(name), device="cpu", dtype="float32").score(PICTURE).quality


def other_checkpoint(folder: Path, to: Path) -> Path:
    """The same checkpoint under another name, with other learned parameters."""
    shutil.copytree(folder, to)
    network = tiny.random_network(clip=tiny.random_clip(), seed=9)
    write_weights(to / "model.safetensors", network.stored(), torch.float32)
    write_config(to, without_digests(read_config(to)))
    return to


def test_only_the_checkpoints_files_are_downloaded_and_kept_for_later(
    fake: FakeHub, tiny_checkpoint: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"pytorch_model.bin": b"large", "logs/config.json": b"{}"}
    fake.models["owner/tiny", "main"] = files_in(tiny_checkpoint) | others
    assert quality("hf://owner/tiny") == scorer.score(PICTURE).quality
    fetched = {path.split("/", 5)[-1] for path in fake.asked if path.startswith("GET /owner")}
    assert fetched == OWN
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert quality("hf://owner/tiny") == scorer.score(PICTURE).quality


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("hf://owner/nothing", "no such repository, or a private one and no login"),
        ("hf://owner/tiny@v9", "no such revision"),
        ("hf://owner/gated", "its owner must give you access first"),
        ("hf://owner/--", "Repo id must use alphanumeric chars"),
    ],
    ids=["repository", "revision", "gated", "name"],
)
def test_what_the_hub_does_not_give_is_refused_in_words(
    url: str, says: str, fake: FakeHub, tiny_checkpoint: Path
) -> None:
    fake.models["owner/tiny", "main"] = files_in(tiny_checkpoint)
    fake.gated.add("owner/gated")
    with pytest.raises(CheckpointError, match=rf"^{url} could not be downloaded \({says}"):
        model.load(url)


def test_of_files_in_order_of_preference_one_is_downloaded(fake: FakeHub) -> None:
    fake.models["owner/clip", "main"] = {"second": b"2", "third": b"3"}
    (path,) = download("owner/clip", ["first", "second", "third"], only_first=True)
    assert path.read_bytes() == b"2"
    assert not any(asked.endswith("third") for asked in fake.asked)
    assert download("owner/clip", ["first"]) == []


def test_a_repository_without_a_checkpoint_is_refused(fake: FakeHub) -> None:
    fake.models["owner/clip", "main"] = {"open_clip_config.json": b"{}", "README.md": b"# CLIP"}
    fake.models["owner/empty", "main"] = {".gitattributes": b""}
    for name in ("clip", "empty"):
        with pytest.raises(CheckpointError, match=f"hf://owner/{name} holds no checkpoint"):
            model.load(f"hf://owner/{name}")


def test_a_damaged_checkpoint_of_the_hub_is_refused_by_its_fault(
    fake: FakeHub, tiny_checkpoint: Path
) -> None:
    fake.models["owner/tiny", "main"] = files = files_in(tiny_checkpoint)
    files["model.safetensors"] = files["model.safetensors"][:999]
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the file that"):
        model.load("hf://owner/tiny")


NO_ADDRESSES = ["hf://", "hf://a", "hf:///a", "hf://a/", "hf://a/b/c", "hf://a//b", "hf://@v2"]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_an_address_that_names_no_repository_is_refused(url: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="names no repository: write hf://owner/name"):
        model.load(url)
    with pytest.raises(CheckpointError, match="names no repository: write hf://owner/name"):
        push(tiny_checkpoint, url)


@pytest.fixture
def own(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))


@pytest.fixture
def shared(own: Path) -> Path:
    """A checkpoint whose backbone lies beside its folder, as the bundled ones' does."""
    (own / "backbone.safetensors").rename(own.parent / "shared.safetensors")
    backbone = BackboneConfig(
        source="file",
        path="../shared.safetensors",
        architecture=tiny.ARCHITECTURE,
        sha256=sha256_of(own.parent / "shared.safetensors"),
    )
    write_config(own, read_config(own).model_copy(update={"backbone": backbone}))
    return own


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where temporary files are made, empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_a_push_uploads_exactly_the_checkpoints_files(
    fake: FakeHub, own: Path, scorer: Scorer
) -> None:
    before = files_in(own)
    (own / "quality.svg").write_bytes(b"of use")
    (own / "events.log").write_bytes(b"of no use")
    (own / "README.md").write_text("![scatter](quality.svg) ![none](gone.svg)")
    (own / ".model.safetensors.x1").write_bytes(b"left by a write that was cut off")
    shutil.copytree(own, own / "logs", ignore=lambda *_: OWN - {"config.json"})
    assert push(own, "hf://owner/new") == f"{fake.address}/owner/new"
    there = fake.models["owner/new", "main"]
    assert there.keys() == OWN | {".gitattributes", "quality.svg"}
    assert all(there[name] == before[name] for name in OWN - {"README.md"})
    assert quality("hf://owner/new") == scorer.score(PICTURE).quality


def test_a_pushed_checkpoint_stands_alone_where_its_backbone_was_shared(
    fake: FakeHub, shared: Path, scorer: Scorer, temporary: Path
) -> None:
    before = files_in(shared)
    push(shared, "hf://owner/alone")
    assert files_in(shared) == before
    assert not list(temporary.iterdir())
    there = fake.models["owner/alone", "main"]
    assert there.keys() == OWN | {".gitattributes"}
    assert there["config.json"] != before["config.json"]
    shutil.rmtree(shared)
    (shared.parent / "shared.safetensors").unlink()
    assert quality("hf://owner/alone") == scorer.score(PICTURE).quality


def test_a_shared_backbone_in_another_layout_is_pushed_too(
    fake: FakeHub, shared: Path, scorer: Scorer
) -> None:
    (shared.parent / "shared.safetensors").unlink()
    torch.save(tiny.random_clip().state_dict(), shared.parent / "clip.pt")
    config = read_config(shared)
    digest = sha256_of(shared.parent / "clip.pt")
    backbone = config.backbone.model_copy(update={"path": "../clip.pt", "sha256": digest})
    write_config(shared, config.model_copy(update={"backbone": backbone}))
    push(shared, "hf://owner/alone")
    assert quality("hf://owner/alone") == scorer.score(PICTURE).quality


def test_a_second_push_replaces_what_changed(fake: FakeHub, own: Path, tmp_path: Path) -> None:
    other = other_checkpoint(own, tmp_path / "other")
    push(own, "hf://owner/new")
    push(other, "hf://owner/new")
    assert quality("hf://owner/new") == quality(other)


def test_a_push_can_go_to_a_branch_of_its_own_and_be_private(fake: FakeHub, own: Path) -> None:
    push(own, "hf://owner/new@v2", private=True)
    assert fake.models["owner/new", "v2"].keys() == OWN
    assert fake.models["owner/new", "main"].keys() == {".gitattributes"}
    assert quality("hf://owner/new@v2") == quality(own)
    push(own, "hf://owner/open")
    assert ["private" in made.values() for made in fake.created] == [True, False]


def test_a_push_to_where_one_may_not_write_is_refused(fake: FakeHub, own: Path) -> None:
    fake.models["other/tiny", "main"] = kept = {"config.json": b"theirs"}
    fake.logins.clear()
    with pytest.raises(CheckpointError, match=r"other/tiny could not be uploaded .*may write"):
        push(own, "hf://other/tiny")
    assert kept == {"config.json": b"theirs"}


def card_of(fake: FakeHub, repository: str) -> Any:
    return huggingface_hub.ModelCard(fake.models[repository, "main"]["README.md"].decode())


@pytest.mark.parametrize("text", ["# tiny\n\nWhat it is.\n", None], ids=["no-header", "no-card"])
def test_a_model_card_without_a_header_gets_one(text: str | None, fake: FakeHub, own: Path) -> None:
    (own / "README.md").unlink()
    if text:
        (own / "README.md").write_text(text)
    push(own, "hf://owner/new")
    card = card_of(fake, "owner/new")
    assert card.data.library_name == "agiqa"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.tags == ["image-quality-assessment", "clip-agiqa"]
    assert card.text.strip() == (text or "# tiny").strip()


def test_a_model_card_with_a_header_is_pushed_as_it_is(fake: FakeHub, own: Path) -> None:
    (own / "README.md").write_text(text := "---\nlicense: mit\n---\n\n# tiny\n")
    push(own, "hf://owner/new")
    assert fake.models["owner/new", "main"]["README.md"] == text.encode()
    assert card_of(fake, "owner/new").data.license == "mit"


def lose(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lose("config.json"), "is not a valid checkpoint configuration"),
        (lose("model.safetensors"), "model.safetensors is missing"),
        (lose("backbone.safetensors"), "backbone weights not found"),
        (lose("../shared.safetensors"), "backbone weights not found"),
    ],
    ids=["no-configuration", "no-parameters", "no-backbone", "no-shared-backbone"],
)
def test_an_incomplete_checkpoint_is_refused_before_the_hub_is_asked(
    damage: Callable[[Path], object],
    says: str,
    fake: FakeHub,
    own: Path,
    request: pytest.FixtureRequest,
    temporary: Path,
) -> None:
    if "shared" in request.node.callspec.id:
        request.getfixturevalue("shared")
    damage(own)
    with pytest.raises(CheckpointError, match=says):
        push(own, "hf://owner/new")
    assert not fake.asked
    assert not fake.models
    assert not list(temporary.iterdir())


def test_a_push_without_a_login_says_how_to_log_in(
    fake: FakeHub, shared: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match=r"owner/new could not be uploaded \(.*401") as no:
        push(shared, "hf://owner/new")
    assert no.match("hf auth login`, or set HF_TOKEN, to an account that may write there$")
    assert "\n" not in str(no.value)
    assert not fake.models
    assert not list(temporary.iterdir())


def test_a_push_without_a_network_is_refused_at_once(
    shared: Path, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    with pytest.raises(CheckpointError, match=r"uploaded \(the hub can't be reached: .*\)$"):
        push(shared, "hf://owner/new")
    assert not list(temporary.iterdir())
