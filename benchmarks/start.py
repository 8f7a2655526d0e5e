"""Time of commands until they answer and until they decide: user time of processes, in units of `import torch`.

Every command of the project is started with --help, with a wrong option and, if it reads files, with the name of a
missing file. Then a decision is made from two photographs of a drawn person. The commands run alternately, and the
median of their user time is reported, which other load on the machine changes little. tests/benchmarks/test_startup.py
starts the same commands.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.arguments import REPOSITORY
from benchmarks.report import medians, table, target_text
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph

MAX_TO_ANSWER = 0.5  # targets, in units of `import torch`
MAX_TO_DECIDE = 3.0
NOWHERE = "nowhere/at/all"
ANSWERS = {  # command -> arguments to which it must answer at once
    "app.py": (["--help"], ["--nothing"], ["--model", NOWHERE]),
    "-m authentication": (
        ["--help"],
        ["a.jpg", "b.jpg", "--expression", "happy", "--nothing"],
        [NOWHERE, NOWHERE, "--expression", "happy"],
    ),
    "-m face_data": (["--help"], ["prepare", "--help"], ["nothing"], ["prepare", "lfw", NOWHERE, "out"]),
    "-m train": (["--help"], ["--nothing"], ["--config", NOWHERE], ["--train", NOWHERE]),
    "-m train.export": (
        ["--help"],
        ["run", "out", "--challenge", "happy", "--nothing"],
        [NOWHERE, "out", "--challenge", "happy"],
    ),
    "-m evaluation": (["--help"], ["all", "--help"], ["nothing"], ["all", "--model", NOWHERE, "--data", NOWHERE]),
    "-m evaluation.attacks": (
        ["--help"],
        ["--model", "m", "--data", "d", "--nothing"],
        ["--model", NOWHERE, "--data", "d"],
    ),
    "-m hub_card": (["--help"], ["build", "--help"], ["nothing"], ["push", NOWHERE, "owner/name"]),
    "-m benchmarks": (["--help"], ["loss", "--help"], ["nothing"], ["loading", "--data", NOWHERE]),
}


def run(arguments) -> dict:
    if arguments.repeats < 1:
        raise ValueError(f"--repeats: at least 1, not {arguments.repeats}")
    torch = ["-c", "import torch"]
    answers = {" ".join(command): command for command in answering_commands()}
    with tempfile.TemporaryDirectory() as temporary:
        reference, probe = (Path(temporary) / name for name in ("reference.png", "probe.png"))
        drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0).save(reference)
        drawn_photograph(WELL_KNOWN[0], "happy", 0, seed=0).save(probe)
        decide = ["-m", "authentication", str(reference), str(probe), "--expression", "happy"]
        decide += ["--model", arguments.model]
        for command in ([*torch], [*decide]):  # writes bytecode, and loads files into the memory cache
            user_seconds(command)
        commands_by_name = {"import torch": torch, "a decision from two photographs": decide} | answers
        seconds = medians(
            {name: lambda command=command: user_seconds(command) for name, command in commands_by_name.items()},
            arguments.repeats,
        )
    unit = seconds.pop("import torch")
    decision = seconds.pop("a decision from two photographs")
    return {
        "import_torch_seconds": unit,
        "decision_ratio": decision / unit,
        "answers": [{"command": name, "ratio": value / unit} for name, value in seconds.items()],
        "slowest_answer_ratio": max(seconds.values()) / unit,
    }


def answering_commands() -> list[list[str]]:
    """The arguments of `python` for every entry of ANSWERS."""
    return [[*command.split(), *arguments] for command, variants in ANSWERS.items() for arguments in variants]


def user_seconds(arguments: list[str]) -> float:
    """User time of `python ARGUMENTS` in the project's folder with one thread; its output and status are ignored."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)  # noqa: TID251 – no other call reports the time of one process
    process.returncode = 0  # os.wait4 has waited for it
    return usage.ru_utime


def text(result: dict) -> str:
    rows = [(row["command"], f"{row['ratio']:.2f}") for row in result["answers"]]
    rows.append(("a decision from two photographs", f"{result['decision_ratio']:.2f}"))
    return "\n".join(
        [
            table(("command", f"times import torch ({result['import_torch_seconds']:.2f} s)"), rows),
            target_text("slowest answer", result["slowest_answer_ratio"], MAX_TO_ANSWER, at_least=False),
            target_text("a decision", result["decision_ratio"], MAX_TO_DECIDE, at_least=False),
        ]
    )
