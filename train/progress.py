"""The progress of a run: its step and time, log.jsonl, and the results of validations.

Called by `run`, which saves it with each training state. Next to read: train/record.py.
"""

import json
import math
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator

from checkpoints import TRAINING_RECORD
from train.batches import Batch
from train.checkpoint import contains_a_run
from train.config import FREE_TO_CHANGE, REMOVED, TrainingConfig

LOGGED = (
    "loss",
    "verification_loss",
    "softmax_loss",
    "triplet_loss",
    "teacher_loss",
    "teacher_pairs_loss",
    "expression_loss",
)


class Progress:
    """Part of each checkpoint. Losses stay on the device until `flush`, so that no step has to wait for them."""

    def __init__(self, config: TrainingConfig, out: Path, processes: int):
        self.step = 0
        self.seen = 0  # number of photographs in all steps
        self.seconds = 0.0  # of training, without validation and saving
        self.waited = 0.0  # seconds of these in which the loop waited for data
        self.validations: list[dict] = []
        self.unreadable: dict[str, str] = {}
        self.final: dict[str, float] = {}  # means over the steps of the last flush
        self.config, self.out, self.processes = config, out, processes
        self.log_file = out / "log.jsonl"
        self._pending: list[tuple] = []
        self._gradients: dict[int, torch.Tensor] = {}  # step -> norm
        self.start_clock()

    def open_folder(self) -> None:
        """Create OUT, or check that the run in it has the same settings, except those that do not affect learning.

        Raises:
            ValueError: it is a different run; the message names the settings.
        """
        file = self.out / "run.json"
        now = learning_settings(self.config) | {"processes": self.processes}
        if self.config.resume and contains_a_run(self.out):
            before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else now
            # a setting that is newer than the run had its default value; a removed one is ignored if it had the value
            # that all runs use now
            removed = set(before) - set(now)
            ignored = {key for key in removed if key in REMOVED and before[key] == REMOVED[key]}
            before = {key: value for key, value in before.items() if key not in ignored}
            before = learning_settings(TrainingConfig()) | before
            before.setdefault("processes", self.processes)
            self._compare_steps(before, now)
            changed = [
                f"{key} {before.get(key)!r}, now {now.get(key)!r}"
                for key in before | now
                if key not in FREE_TO_CHANGE and before.get(key) != now.get(key)
            ]
            if changed:
                raise ValueError(
                    f"{self.out} holds another run ({'; '.join(changed)}): give another --out, or --resume false to "
                    "remove it and start again"
                )
            file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
            return
        for name in ("checkpoints", "best", "last", "tensorboard"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        for name in ("log.jsonl", TRAINING_RECORD):
            (self.out / name).unlink(missing_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")

    def _compare_steps(self, before: dict, now: dict) -> None:
        """Change `before` so that a run can be resumed with another number of processes.

        If a step has the same number of photographs, processes, accumulation and batch size may all differ. Otherwise
        only the number of processes may differ, and this is reported on stderr.
        """
        factors = ("processes", "accumulation", "batch_size")
        photographs_before, photographs_now = (math.prod(run[name] for name in factors) for run in (before, now))
        if photographs_before == photographs_now:
            before.update({name: now[name] for name in factors})
        elif before["processes"] != now["processes"]:
            print(
                f"train: {self.out} was trained by {before['processes']} processes, now by {now['processes']}: a "
                f"step has {photographs_now} photographs now, not {photographs_before}; --batch_size or --accumulation "
                "can keep them equal",
                file=sys.stderr,
            )
            before["processes"] = now["processes"]

    def state_dict(self) -> dict:
        names = ("step", "seen", "seconds", "waited", "validations", "unreadable", "final")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict) -> None:
        vars(self).update({"seen": state["step"] * self.photographs_per_step()} | state)

    def photographs_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulation * self.processes

    def finish_step(self) -> None:
        self.step += 1
        self.seen += self.photographs_per_step()

    def remove_later_rows(self) -> None:
        """Remove the rows of log.jsonl after the current step, which are written again by the resumed run."""
        if self.log_file.exists():
            rows = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= self.step]
            self.log_file.write_text("".join(rows), encoding="utf-8")

    # time

    def start_clock(self) -> None:
        self._clock = self._last_flush = time.monotonic()
        self._waited_at_flush = self.waited

    @contextmanager
    def waiting(self):
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    @contextmanager
    def paused(self):
        self._tick()
        yield
        self.start_clock()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    # log.jsonl

    def add_batch(self, output, batch: Batch, rate: float) -> None:
        """Add losses and weights of a batch, which the next flush writes."""
        numbers = torch.stack([*(getattr(output, name).detach() for name in LOGGED), *output.task_weights.detach()])
        self._pending.append((self.step + 1, rate, numbers, batch.keys))
        for key, error in batch.unreadable.items():
            if key not in self.unreadable:
                self.unreadable[key] = error
                print(f"train: {key} cannot be decoded and is left out: {error}", file=sys.stderr)

    def add_gradient_norm(self, norm: torch.Tensor) -> None:
        """Add the norm of the gradient of a step before clipping."""
        self._gradients[self.step + 1] = norm.detach()

    def flush(self, accelerator: Accelerator) -> tuple[list[dict], str | None]:
        """Write a row for each step since the last flush.

        Returns:
            the rows, and the error message of the first step that is not finite, None if there is none.
        """
        steps: dict[int, list] = {}
        for step, rate, numbers, keys in self._pending:
            steps.setdefault(step, []).append((rate, numbers.tolist(), keys))
        norms = {step: float(norm) for step, norm in self._gradients.items()}
        self._pending.clear()
        self._gradients.clear()
        self._tick()
        batch = self.photographs_per_step()
        seconds = max(self._clock - self._last_flush, 1e-9)
        speed = {
            "images_per_second": round(len(steps) * batch / seconds, 1),
            "share_waiting_for_data": round((self.waited - self._waited_at_flush) / seconds, 4),
        }
        self._last_flush, self._waited_at_flush = self._clock, self.waited
        rows = []
        for step, parts in steps.items():
            mean = [sum(column) / len(parts) for column in zip(*(numbers for _, numbers, _ in parts), strict=True)]
            row = dict(zip((*LOGGED, "w1", "w2"), mean, strict=True)) | {"gradient_norm": norms[step]}
            if not all(map(math.isfinite, row.values())):
                keys = [key for _, _, batch_keys in parts for key in batch_keys]
                numbers = ", ".join(f"{name} {row[name]:g}" for name in (*LOGGED, "gradient_norm"))
                where = f" of process {accelerator.process_index}" if self.processes > 1 else ""
                part = "gradient" if all(map(math.isfinite, mean)) else "loss"
                return rows, (
                    f"the {part} is not finite at step {step} ({numbers}): lower --learning_rate, or inspect the batch"
                    f"{where}: {', '.join(keys)}"
                )
            row = {name: round(value, 6) for name, value in row.items()}
            rows.append({"step": step, "learning_rate": parts[0][0]} | speed | row)
        if accelerator.is_main_process and rows:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
            self.final = {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in (*LOGGED, "w1", "w2")}
        return rows, None

    @staticmethod
    def summary(row: dict) -> dict[str, str]:
        """Numbers of a row for the progress bar."""
        return {
            "L1": f"{row['verification_loss']:.2f}",
            "L2": f"{row['expression_loss']:.2f}",
            "w1": f"{row['w1']:.2f}",
            "w2": f"{row['w2']:.2f}",
            "img/s": f"{row['images_per_second']:.0f}",
        }

    def add_validation(self, numbers: dict[str, float]) -> bool:
        """Add the results of a validation.

        Returns:
            whether it is the best so far, by the mean of its AUCs and expression accuracies.
        """
        scores = [
            value for name, value in numbers.items() if name.endswith(("verification_auc", "expression_accuracy"))
        ]
        score = sum(scores) / len(scores) if scores else float(self.step)  # without any, the newest is the best
        best = max((row["score"] for row in self.validations), default=-math.inf)
        self.validations.append({"step": self.step, "score": score} | numbers)
        return score > best


def learning_settings(config: TrainingConfig) -> dict:
    """The settings that affect what is learnt, in the form in which JSON stores them."""
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in FREE_TO_CHANGE}))
