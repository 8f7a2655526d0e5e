"""The progress of a run: its step and clock, log.jsonl, and the numbers of validations.

Kept by `loop`, saved with every training state. Next: `record`.
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

from train.batches import Batch
from train.checkpoint import RECORD, holds_a_run
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
    """Kept in the run's checkpoints. Losses stay on the device until `flush`, so that no step waits for them."""

    def __init__(self, config: TrainingConfig, out: Path, processes: int):
        self.step = 0
        self.seen = 0  # photographs
        self.seconds = 0.0  # of training, validations and saving left out
        self.waited = 0.0  # of these, for data
        self.validations: list[dict] = []
        self.unreadable: dict[str, str] = {}
        self.final: dict[str, float] = {}  # means of the last steps that were flushed
        self.config, self.out, self.processes = config, out, processes
        self.log_file = out / "log.jsonl"
        self._pending: list[tuple] = []
        self._gradients: dict[int, torch.Tensor] = {}  # step -> norm
        self.start_clock()

    def open_folder(self) -> None:
        """Make OUT, or check that the run in it is this one.

        Raises:
            ValueError: it is another run, by the settings that decide what is learnt.
        """
        file = self.out / "run.json"
        now = deciding(self.config) | {"processes": self.processes}
        if self.config.resume and holds_a_run(self.out):
            before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else now
            # a setting that is younger than the run had its default; one that is gone was off, or what it always is now
            gone = {key for key, value in before.items() if key not in now and (not value or value == REMOVED.get(key))}
            before = deciding(TrainingConfig()) | {key: value for key, value in before.items() if key not in gone}
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
                    "remove it and begin anew"
                )
            file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
            return
        for name in ("checkpoints", "best", "last", "tensorboard"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        for name in ("log.jsonl", RECORD):
            (self.out / name).unlink(missing_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")

    def _compare_steps(self, before: dict, now: dict) -> None:
        """Let a run be resumed with another number of processes.

        With as many images in a step, however divided, it learns the same; with more or fewer it is resumed only if
        the number of processes alone changed, and stderr says so.
        """
        division = ("processes", "accumulation", "batch_size")
        was, is_ = (math.prod(run[name] for name in division) for run in (before, now))
        if was == is_:
            before.update({name: now[name] for name in division})
        elif before["processes"] != now["processes"]:
            print(
                f"train: {self.out} was trained by {before['processes']} processes, now by {now['processes']}: a "
                f"step has {is_} photographs now, not {was}; --batch_size or --accumulation can keep them equal",
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

    def stepped(self) -> None:
        self.step += 1
        self.seen += self.photographs_per_step()

    def forget_later_rows(self) -> None:
        """What was logged after the checkpoint will be logged again."""
        if self.log_file.exists():
            rows = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= self.step]
            self.log_file.write_text("".join(rows), encoding="utf-8")

    # the clock

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

    # the log

    def note(self, output, batch: Batch, rate: float) -> None:
        """One batch's losses and weights, to be written by the next flush."""
        numbers = torch.stack([*(getattr(output, name).detach() for name in LOGGED), *output.task_weights.detach()])
        self._pending.append((self.step + 1, rate, numbers, batch.keys))
        for key, error in batch.unreadable.items():
            if key not in self.unreadable:
                self.unreadable[key] = error
                print(f"train: {key} cannot be decoded and is left out: {error}", file=sys.stderr)

    def note_gradient(self, norm: torch.Tensor) -> None:
        """The norm of a step's whole gradient, before it was clipped."""
        self._gradients[self.step + 1] = norm.detach()

    def flush(self, accelerator: Accelerator) -> tuple[list[dict], str | None]:
        """Write a row per step; returns the rows, and what is wrong with the first that is not finite."""
        steps: dict[int, list] = {}
        for step, rate, numbers, keys in self._pending:
            steps.setdefault(step, []).append((rate, numbers.tolist(), keys))
        norms = {step: float(norm) for step, norm in self._gradients.items()}
        self._pending.clear()
        self._gradients.clear()
        self._tick()
        batch = self.photographs_per_step()
        seconds = max(self._clock - self._last_flush, 1e-9)
        pace = {
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
                    f"the {part} is not finite at step {step} ({numbers}): lower --learning_rate, or look at the batch"
                    f"{where}: {', '.join(keys)}"
                )
            row = {name: round(value, 6) for name, value in row.items()}
            rows.append({"step": step, "learning_rate": parts[0][0]} | pace | row)
        if accelerator.is_main_process and rows:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
            self.final = {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in (*LOGGED, "w1", "w2")}
        return rows, None

    @staticmethod
    def summary(row: dict) -> dict[str, str]:
        """What the progress bar shows."""
        return {
            "L1": f"{row['verification_loss']:.2f}",
            "L2": f"{row['expression_loss']:.2f}",
            "w1": f"{row['w1']:.2f}",
            "w2": f"{row['w2']:.2f}",
            "img/s": f"{row['images_per_second']:.0f}",
        }

    def validated(self, numbers: dict[str, float]) -> bool:
        """Note a validation; True where it is the best so far, by the mean of its AUCs and expression accuracies."""
        scores = [
            value for name, value in numbers.items() if name.endswith(("verification_auc", "expression_accuracy"))
        ]
        score = sum(scores) / len(scores) if scores else float(self.step)  # without validation the newest is the best
        best = max((row["score"] for row in self.validations), default=-math.inf)
        self.validations.append({"step": self.step, "score": score} | numbers)
        return score > best


def deciding(config: TrainingConfig) -> dict:
    """The settings that decide what is learnt, as JSON holds them."""
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in FREE_TO_CHANGE}))
