"""The examples for people who generate, run with stand-ins for what they plug into and the real
service.
"""

import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageFilter

from agiqa_client import Client, Refused, Unreachable
from tests.app.server import Running, free_port, serving

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
PROMPT = "a cup of coffee on a wooden table"


def load(name: str) -> ModuleType:
    """An example as a module, under its own name."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run_script(name: str, *arguments: str) -> str:
    """What an example prints when it is run as a script."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


best_of_n = load("diffusers_best_of_n").best_of_n
callback = load("diffusers_callback")
nodes = load("comfyui_agiqa")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with Client(service.url) as opened:
        yield opened


@cache
def clean() -> Image.Image:
    return Image.fromarray(skimage.data.coffee()).resize((384, 256))


@cache
def degraded(strength: int) -> Image.Image:
    """The picture with blur and noise; 0: as it is."""
    if not strength:
        return clean()
    blurred = np.asarray(clean().filter(ImageFilter.GaussianBlur(strength)), np.float32)
    noise = np.random.default_rng(strength).normal(0, 12 * strength, blurred.shape)
    return Image.fromarray((blurred + noise).clip(0, 255).astype(np.uint8))


class Pipeline:
    """A pipeline of diffusers as far as the examples use one, and strict about it.

    A generator's seed says how bad its image becomes; ``best`` is the good one. Its latents are
    images, and lose their noise step by step.
    """

    def __init__(self, best: int = 0) -> None:
        self.best, self.calls, self.steps_done = best, list[dict[str, Any]](), 0
        self._interrupt = False
        config = SimpleNamespace(scaling_factor=0.5)
        self.vae = SimpleNamespace(config=config, decode=lambda z, return_dict: (z,))
        self.image_processor = SimpleNamespace(postprocess=self._postprocess)
        self.num_timesteps = 0

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        num_inference_steps: int = 50,
        num_images_per_prompt: int | None = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        callback_on_step_end: Any = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> SimpleNamespace:
        assert isinstance(prompt, str)
        self.calls.append({"prompt": prompt, "steps": num_inference_steps})
        generators = generator if isinstance(generator, list) else [generator]
        assert len(generators) == num_images_per_prompt
        seeds = [g.initial_seed() if g else self.best for g in generators]
        images = [degraded(abs(seed - self.best)) for seed in seeds]
        self._interrupt, self.num_timesteps, self.steps_done = False, num_inference_steps, 0
        wanted = torch.stack([as_tensor(image) for image in images])
        noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0))
        latents = noise
        for step in range(num_inference_steps):
            if self._interrupt:
                continue
            left = 1 - (step + 1) / num_inference_steps
            latents = (wanted * (1 - left) + noise * left) * 0.5
            self.steps_done += 1
            if callback_on_step_end is not None:
                tensors = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                latents = callback_on_step_end(self, step, torch.tensor(step), tensors)["latents"]
        return SimpleNamespace(images=images)

    @staticmethod
    def _postprocess(decoded: torch.Tensor, output_type: str) -> list[Image.Image]:
        assert output_type == "pil"
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
        return [Image.fromarray(one.numpy()) for one in pixels]


def as_tensor(image: Image.Image) -> torch.Tensor:
    """An image [3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


@pytest.mark.parametrize("per_call", [1, 2, 4])
@pytest.mark.parametrize("by", ["quality", "consistency"])
def test_best_of_n_chooses_the_clean_image(client: Client, by: str, per_call: int) -> None:
    pipe = Pipeline(best=12)
    options = {"by": by, "seed": 10, "per_call": per_call, "num_inference_steps": 2}
    found = best_of_n(pipe, PROMPT, 5, client, **options)
    assert found[0].seed == 12
    assert found[0].image is clean()
    values = [getattr(candidate.score, by) for candidate in found]
    assert values == sorted(values, reverse=True)
    assert sorted(candidate.seed for candidate in found) == [10, 11, 12, 13, 14]
    assert pipe.calls[0] == {"prompt": PROMPT, "steps": 2}
    assert len(pipe.calls) == -(-5 // per_call)


def test_best_of_n_says_what_is_missing(client: Client) -> None:
    with pytest.raises(ValueError, match="gives no scene"):
        best_of_n(Pipeline(), PROMPT, 1, client, by="scene")
    with Client(f"http://127.0.0.1:{free_port()}", retries=0) as nobody, pytest.raises(Unreachable):
        best_of_n(Pipeline(), PROMPT, 1, nobody)


def test_the_callback_watches_an_image_getting_better(client: Client) -> None:
    pipe, watch = Pipeline(), callback.ScoringCallback(client, PROMPT, at=(0.2, 0.5, 0.9))
    for _ in range(2):
        pipe(PROMPT, num_inference_steps=10, callback_on_step_end=watch)
        assert [step for step, _ in watch.history] == [2, 5, 9]
        values = [value for _, value in watch.history]
        assert values == sorted(values)
        assert values[-1] == pytest.approx(client.score_agi(clean()).quality, abs=0.03)
        assert watch.stopped is False
        assert pipe.steps_done == 10


def test_the_callback_ends_a_hopeless_generation(client: Client) -> None:
    middle = (client.score_agi(clean()).quality + client.score_agi(degraded(4)).quality) / 2
    for best, stopped, steps in ((0, False, 10), (4, True, 10)):
        pipe = Pipeline(best=best)
        watch = callback.ScoringCallback(client, at=(0.9,), stop_below=middle)
        generator = torch.Generator().manual_seed(0)
        pipe(PROMPT, 10, generator=generator, callback_on_step_end=watch)
        assert watch.stopped is stopped
        assert pipe.steps_done == steps
    watch = callback.ScoringCallback(client, at=(0.3,), stop_below=1.0)
    pipe(PROMPT, 10, callback_on_step_end=watch)
    assert pipe.steps_done == 4


def test_without_a_service_the_callback_lets_the_image_be_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retries=0) as nobody:
        watch = callback.ScoringCallback(nobody, at=(0.5,), stop_below=1.0)
        pipe = Pipeline()
        pipe(PROMPT, 4, callback_on_step_end=watch)
    assert pipe.steps_done == 4
    assert "step 2 has no score: no service answers" in caplog.text


def test_a_validation_step_logs_mean_scores(client: Client) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    images = [degraded(0), degraded(2)]
    callback.log_validation(
        client, images, [PROMPT] * 2, 7, lambda values, step: logged.append((values, step))
    )
    ((values, step),) = logged
    alone = [client.score_agi(image, PROMPT) for image in images]
    assert step == 7
    for head in ("quality", "alignment", "consistency"):
        mean = sum(getattr(score, head) for score in alone) / 2
        assert values[f"agiqa/{head}"] == pytest.approx(mean, abs=1e-4)


def batch(*strengths: int) -> torch.Tensor:
    """Images as ComfyUI has them: [b, h, w, c] in [0, 1]."""
    return torch.stack(
        [torch.from_numpy(np.asarray(degraded(s)).copy()).float() / 255 for s in strengths]
    )


def run_node(name: str, **given: Any) -> Any:
    """Runs a node as ComfyUI does: by its mappings, its function's name, and its inputs."""
    kind = nodes.NODE_CLASS_MAPPINGS[name]
    inputs = kind.INPUT_TYPES()
    assert set(inputs["required"]) <= set(given) <= {*inputs["required"], *inputs["optional"]}
    function = getattr(kind(), kind.FUNCTION)
    assert set(inspect.signature(function).parameters) == {
        *inputs["required"],
        *inputs["optional"],
    }
    answer = function(**given)
    result = answer["result"] if isinstance(answer, dict) else answer
    assert len(result) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
    assert len(kind.OUTPUT_IS_LIST) == len(kind.RETURN_TYPES)
    return result


def test_the_score_node_gives_each_image_s_scores(service: Running, client: Client) -> None:
    given = {"images": batch(0, 4), "prompt": PROMPT, "service": service.url}
    quality, alignment, consistency, report = run_node("AgiqaScore", **given)
    alone = client.score_agi(clean(), PROMPT)
    assert quality[0] == pytest.approx(alone.quality, abs=1e-4)
    assert alignment[0] == pytest.approx(alone.alignment, abs=1e-4)
    assert consistency[0] == pytest.approx(alone.consistency, abs=1e-4)
    assert quality[0] > quality[1]
    assert report.splitlines()[0].startswith(f"0: quality {quality[0]:.3f}, alignment")
    quality, _, consistency, _ = run_node("AgiqaScore", **given | {"prompt": ""})
    assert all(map(np.isnan, consistency))
    assert not any(map(np.isnan, quality))


@pytest.mark.parametrize("by", ["quality", "consistency"])
def test_the_best_of_n_node_chooses_the_clean_image(service: Running, by: str) -> None:
    images = batch(3, 0, 4, 2)
    given = {"images": images, "prompt": PROMPT, "by": by, "service": service.url}
    kept, scores, places, report = run_node("AgiqaBestOfN", n=2, threshold=0.0, **given)
    assert kept.shape == (2, *images.shape[1:])
    assert torch.equal(kept[0], images[1])
    assert places[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert len(report.splitlines()) == 4
    between = sum(scores) / 2
    _, above, *_ = run_node("AgiqaBestOfN", n=4, threshold=between, **given)
    assert above == pytest.approx(scores[:1], abs=1e-4)


def test_the_best_of_n_node_says_why_it_keeps_nothing(service: Running) -> None:
    given = {"images": batch(4), "n": 1, "service": service.url}
    with pytest.raises(ValueError, match=r"No image has quality 0\.99; the best has 0\."):
        run_node("AgiqaBestOfN", prompt="", by="quality", threshold=0.99, **given)
    with pytest.raises(ValueError, match="give a prompt"):
        run_node("AgiqaBestOfN", prompt="", by="consistency", threshold=0.0, **given)
    with pytest.raises(Refused, match="prompt"):
        run_node("AgiqaBestOfN", prompt="x" * 5000, by="quality", threshold=0.0, **given)


def test_the_nodes_are_named_for_the_menu() -> None:
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS.keys() == nodes.NODE_CLASS_MAPPINGS.keys()
    for kind in nodes.NODE_CLASS_MAPPINGS.values():
        assert kind.CATEGORY == "agiqa"


@pytest.mark.parametrize("name", ["comfyui_agiqa", "diffusers_best_of_n", "diffusers_callback"])
def test_every_example_tells_how_it_is_called(name: str) -> None:
    printed = run_script(name, "--help")
    assert "--service" in printed
    assert "`" + name + ".py`" in (EXAMPLES / "README.md").read_text()


def test_the_node_can_be_tried_on_files(service: Running, tmp_path: Path) -> None:
    for strength in (0, 3):
        degraded(strength).save(tmp_path / f"{strength}.png")
    files = [str(tmp_path / "0.png"), str(tmp_path / "3.png")]
    printed = run_script("comfyui_agiqa", *files, "--prompt", PROMPT, "--service", service.url)
    assert [line.split(" ")[:2] for line in printed.splitlines()] == [
        ["0:", "quality"],
        ["1:", "quality"],
    ]
