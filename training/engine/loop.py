"""The training loop: steps, moving average, validation, early stopping, and resume at the end of
every epoch.

Everything random is derived from (seed, epoch), so a resumed run goes on as if it had not stopped.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from model.clip.towers import recomputed_layers
from training.engine.devices import accelerator_for
from training.engine.history import Curves, write_csv
from training.engine.schedule import Schedule
from training.engine.state import Progress, load_state, save_atomically
from training.engine.task import Outputs, Step, Task, refuse_nan
from training.engine.validation import ValidationSet
from training.engine.weights import Weights, copy_into
from training.errors import TrainingError
from training.evaluation.results import SrccBySet, flat_srcc
from training.sampling.batches import Batch, Batches

_T = TypeVar("_T")


@dataclass
class Run:
    """One stage of training in a folder that keeps its state (``NAME.state.pt``), its figures
    (``NAME.metrics.csv``) and TensorBoard's (``tensorboard/NAME``).
    """

    name: str
    task: Task
    batches: Batches
    validation: ValidationSet
    schedule: Schedule
    folder: Path
    seed: int
    fingerprint: str
    device: str = "auto"

    def fit(self, report: Callable[[str], None] = print) -> Progress:
        """Trains to the end, from the last finished epoch on; leaves the weights that are kept in
        the task, on the CPU.

        Raises:
            TrainingError: nothing to train on, a loss or gradient that is no number, or a state
                that belongs to another run.
        """
        accelerator = accelerator_for(self.device, self.schedule.precision)
        self._share(accelerator)
        training = _Training(self, accelerator)
        progress = training.progress
        with Curves(self.folder / "tensorboard" / self.name) as curves:
            while progress.epochs < self.schedule.epochs and not self._is_over(progress):
                training.epoch()
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    self._save(training, curves)
                    report(f"{self.name} {progress.epochs}/{self.schedule.epochs}: {progress.last}")
                accelerator.wait_for_everyone()
        kept = progress.best if self.schedule.select == "best" else training.weights.average
        copy_into(self.task.trained(), kept)
        self.task.module.to("cpu")
        return progress

    def measure(self) -> SrccBySet:
        """SRCC of the task as it is now, in full precision; leaves it on the CPU."""
        return self._judged(self.task.evaluate)

    def calibrate(self) -> None:
        """The task as it is now, on the validation images."""
        self.task.calibrate(self._judged(self.task.predict), self.validation.samples)

    def _judged(self, judge: Callable[[ValidationSet, Accelerator], _T]) -> _T:
        accelerator = accelerator_for(self.device, "fp32")
        self.task.module.to(accelerator.device)
        found = judge(self.validation, accelerator)
        self.task.module.to("cpu")
        return found

    def _share(self, accelerator: Accelerator) -> None:
        if self.schedule.accumulate > 1 and self.task.needs_whole_batches:
            raise TrainingError(
                "batch norm takes statistics of a whole batch: set schedule.accumulate to 1, and "
                "schedule.checkpoint_activations=true to save memory"
            )
        if not len(self.batches):
            images = len(self.batches.samples)
            raise TrainingError(
                f"{images} training images make no batch of {self.batches.size}: set "
                "schedule.batch lower"
            )
        try:
            self.batches.share(accelerator.process_index, accelerator.num_processes)
        except ValueError as error:
            raise TrainingError(f"{error}: set schedule.batch to a multiple") from error

    def _is_over(self, progress: Progress) -> bool:
        patience = self.schedule.patience
        return patience is not None and progress.epochs - progress.best_epoch >= patience

    def _save(self, training: "_Training", curves: Curves) -> None:
        progress = training.progress
        write_csv(self.folder / f"{self.name}.metrics.csv", progress.history)
        curves.add(progress.epochs, progress.history[-1])
        state = {"fingerprint": self.fingerprint, **training.state()}
        save_atomically(self.folder / f"{self.name}.state.pt", state)


class _Training:
    """A run on a machine: optimiser, wrapped step, weights and progress."""

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        self.run = run
        self.accelerator = accelerator
        self.task = run.task
        self.task.module.to(accelerator.device)
        state = load_state(run.folder / f"{run.name}.state.pt", run.fingerprint)
        self._require_one_state(state)
        step = Step(self.task, run.schedule.accumulate)
        if state is None:
            # Before the processes' weights are made equal, and their average is begun.
            with torch.no_grad(), closing(self._first(step)) as first:
                self.task.start(first)
        self.weights = Weights(self.task.trained(), run.schedule.ema)
        optimiser = run.schedule.optimiser_of(self.weights.parameters, self.task.hidden_maps())
        self.step, self.optimiser = accelerator.prepare(step, optimiser)
        self.progress = Progress()
        if state is not None:
            self._restore(state)

    def _require_one_state(self, state: Mapping[str, Any] | None) -> None:
        """All processes go on from the main one's epoch, or would wait for each other for ever.

        Raises:
            TrainingError: some found another state: their machines share no folder.
        """
        epochs = len(state["progress"]["history"]) if state else 0
        mine = torch.tensor([epochs], device=self.accelerator.device)
        found = self.accelerator.gather(mine).tolist()
        if len(set(found)) > 1:
            raise TrainingError(
                f"the processes found {found} finished epochs in {self.run.folder}: set work to a "
                "folder that all machines share"
            )

    def _first(self, step: Step) -> Generator[tuple[Outputs, Batch], None, None]:
        """The outputs for the batches of the first epoch."""
        for batch in self.run.batches.epoch(0):
            batch = batch.to(self.accelerator.device)
            with self.accelerator.autocast():
                outputs, _ = step.outputs(batch)
            yield outputs, batch

    def epoch(self) -> None:
        """Trains one more epoch and measures it."""
        number = self.progress.epochs
        torch.manual_seed(self.run.seed * 100_003 + number)
        figures = self._train(number)
        schedule = self.run.schedule
        last = number + 1 == schedule.epochs
        if last or (number + 1) % schedule.evaluate_every == 0:
            with self.weights.averaged(), self.accelerator.autocast():
                measured = self.task.evaluate(self.run.validation, self.accelerator)
            figures |= flat_srcc(measured)
            self._keep_if_best(number + 1, measured)
        self.progress.history.append(figures)

    def _train(self, number: int) -> dict[str, float]:
        """One pass over the batches; the mean of every term of the loss."""
        run = self.run
        sums: dict[str, float] = defaultdict(float)
        parameters = list(self.weights.parameters.values())
        balance = self.task.balance(self.progress.history)
        bar = tqdm(
            run.batches.epoch(number),
            total=len(run.batches),
            desc=f"{run.name} {number + 1}",
            leave=False,
            disable=not self.accelerator.is_main_process,
        )
        for i, batch in enumerate(bar):
            place = number * len(run.batches) + i
            for group in self.optimiser.param_groups:
                group["lr"] = group["lr_scale"] * run.schedule.rate(place, len(run.batches))
            batch = batch.to(self.accelerator.device)
            with recomputed_layers(run.schedule.checkpoint_activations):
                losses = self.step(batch)
            total = torch.stack([balance.get(key, 1.0) * v for key, v in losses.items()]).sum()
            refuse_nan("loss", total, batch, losses)
            self.optimiser.zero_grad(set_to_none=True)
            self.accelerator.backward(total)
            # Without clipping the norm is still computed: it shows numbers that are none.
            norm = self.accelerator.clip_grad_norm_(parameters, run.schedule.clip_norm or math.inf)
            if norm is not None and self.accelerator.scaler is None:  # which skips such steps
                refuse_nan("gradient", norm, batch)
            self.optimiser.step()
            self.weights.follow(place)
            bar.set_postfix(loss=f"{float(total.detach()):.4f}", refresh=False)
            for key, value in losses.items():
                sums[key] += float(value.detach())
        return {key: value / len(run.batches) for key, value in sums.items()}

    def _keep_if_best(self, epoch: int, measured: SrccBySet) -> None:
        values = [heads["quality"] for heads in measured.values() if "quality" in heads]
        # Constant predictions have no rank correlation: no epoch is worse.
        value = float(np.nan_to_num(np.mean(values), nan=-1.0)) if values else -1.0
        if value > self.progress.best_value:
            self.progress.best_value = value
            self.progress.best_epoch = epoch
            if self.run.schedule.select == "best":
                self.progress.best = self.weights.snapshot()

    def state(self) -> dict[str, Any]:
        """All that ``_restore`` needs."""
        scaler = self.accelerator.scaler
        return {
            "parameters": {k: p.detach() for k, p in self.weights.parameters.items()},
            "buffers": dict(self.task.buffers()),
            "average": self.weights.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "progress": asdict(self.progress),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        copy_into(self.weights.parameters, state["parameters"])
        copy_into(self.task.buffers(), state["buffers"])
        copy_into(self.weights.average, state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
