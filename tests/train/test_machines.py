"""Two launchers simulate two machines with separate disks. Real processes use gloo on the loopback device."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from programs import Program, connected, free_port

from machines import MachineError, refuse_unconnected_launch, this_machine
from train import command  # noqa: F401 – imported once, because this takes seconds
from train.__main__ import main

STEPS = 30
TIMEOUT = 1200  # seconds; long, because the machine may be busy


def arguments(repository: Path) -> list[str]:
    """The same on every machine. The relative paths refer to the disk of the machine."""
    presets = repository / "train" / "presets"
    return [
        "--config",
        str(presets / "dynamic.yaml"),
        str(presets / "drawn.yaml"),
        "--out",
        "run",
        "--train",
        "corpora/drawn:train",
        "--validation",
        "corpora/drawn:valid",
        "--network.trunk",
        "test_resnet",
        "--network.repeats",
        "[1, 1, 0]",
        "--image_size",
        "64",
        "--steps",
        str(STEPS),
        "--batch_size",
        "4",
        "--save_every",
        "3",
        "--validate_every",
        str(STEPS),
        "--workers",
        "0",
        "--tracker",
        "none",
        "--mixed_precision",
        "no",
        "--cpu",
        "true",
    ]


def descendants(process: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [descendant for child in children for descendant in descendants(child)]


class Machine:
    """A launcher with its own home folder and disk."""

    def __init__(self, folder: Path, corpus: Path, repository: Path):
        self.folder, self.repository, self.launcher = folder, repository, None
        (folder / "home").mkdir(parents=True)
        shutil.copytree(corpus, folder / "corpora" / "drawn")

    def start(self, rank: int, port: int) -> None:
        launch = [
            "-m",
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_machines",
            "2",
            "--num_processes",
            "2",
            "--machine_rank",
            str(rank),
            "--main_process_ip",
            "127.0.0.1",
            "--main_process_port",
            str(port),
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "-m",
            "train",
        ]
        environment = os.environ | {
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(self.repository),
            "OMP_NUM_THREADS": "1",
        }
        self.output = self.folder / "output.txt"
        self.launcher = Program(launch + arguments(self.repository), self.folder, environment, self.output)

    def kill(self) -> None:
        """Kill all processes, as if the power failed, so that none can report anything."""
        self.send_signal(signal.SIGKILL)
        self.launcher.wait()

    def send_signal(self, number: signal.Signals) -> None:
        for process in [*descendants(self.launcher.pid), self.launcher.pid]:
            os.kill(process, number)

    def wait_for_end(self) -> tuple[int, str]:
        """The exit status and the whole output."""
        status = self.launcher.wait(timeout=TIMEOUT)
        return status, self.output.read_text()

    @property
    def checkpoints(self) -> list[Path]:
        return sorted((self.folder / "run" / "checkpoints").glob("step-????????"))

    def steps(self) -> list[int]:
        return [json.loads(row)["step"] for row in (self.folder / "run" / "log.jsonl").read_text().splitlines()]


def start_both(machines: list[Machine]) -> None:
    port = free_port()
    for rank, machine in enumerate(machines):
        machine.start(rank, port)


def programs_on(machines: list[Machine], repository: Path) -> list[Program]:
    """The same training without launchers, with the variables that they set."""
    single = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}  # one process on each machine
    return [
        Program(["-m", "train", *arguments(repository)], machine.folder, os.environ | variables | single)
        for machine, variables in zip(machines, connected(len(machines)), strict=True)
    ]


@pytest.fixture
def machines(tmp_path, drawn_corpus, repository):
    both = [Machine(tmp_path / f"machine-{rank}", drawn_corpus, repository) for rank in range(2)]
    yield both
    for machine in both:
        if machine.launcher and machine.launcher.poll() is None:
            machine.kill()


def test_the_same_command_resumes_after_a_machine_fails(machines, tmp_path, repository, monkeypatch, capsys):
    first, second = machines
    start_both(machines)
    deadline = time.monotonic() + TIMEOUT
    while not first.checkpoints:
        assert first.launcher.poll() is None and time.monotonic() < deadline, first.output.read_text()[-3000:]
        time.sleep(0.01)

    # a second run in the same folder is refused while the first run, which is stopped here, uses it
    for machine in machines:
        machine.send_signal(signal.SIGSTOP)
    monkeypatch.chdir(first.folder)
    assert main(arguments(repository)) == 2
    assert "run is in use by process" in capsys.readouterr().err

    second.kill()
    first.send_signal(signal.SIGCONT)
    status, output = first.wait_for_end()
    assert status != 0 and f"train: process 1 on {this_machine()} is gone" in output
    assert "Connection" not in output and "gloo" not in output  # no message or traceback of the library
    assert not (first.folder / "run" / "run.lock").exists()
    assert 3 <= max(first.steps()) < STEPS and not second.checkpoints
    single = tmp_path / "alone"
    shutil.copytree(first.folder, single)

    # start both again; the second machine has no files of the run
    programs = programs_on(machines, repository)
    for program in programs:
        assert program.wait(TIMEOUT) == 0, program.stderr[-3000:]
    assert "resumed from run/checkpoints/step-" in programs[0].stdout
    assert first.steps() == list(range(1, STEPS + 1))
    assert [path.name for path in second.checkpoints] == [path.name for path in second.checkpoints[:1]] != []
    newest = first.checkpoints[-1]
    states = [torch.load(newest / f"random_states_{rank}.pkl", weights_only=False) for rank in range(2)]
    assert not torch.equal(states[0]["torch_manual_seed"], states[1]["torch_manual_seed"])
    assert not (second.folder / "run" / "last").exists()  # only one machine writes the results

    # resume with one process instead of two
    monkeypatch.chdir(single)
    assert main(arguments(repository)) == 0
    output = capsys.readouterr()
    assert "was trained by 2 processes, now by 1: a step has 4 photographs now, not 8" in output.err
    rows = [json.loads(row)["step"] for row in (single / "run" / "log.jsonl").read_text().splitlines()]
    assert rows == list(range(1, STEPS + 1))
    record = json.loads((single / "run" / "training.json").read_text())
    resumed_step = int(output.out.partition("step-")[2][:8])
    assert record["photographs_seen"] == resumed_step * 8 + (STEPS - resumed_step) * 4


def test_different_corpora_on_machines_are_reported_before_the_first_batch(machines, repository):
    first, second = machines
    shard = second.folder / "corpora" / "drawn" / "part-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(1), shard)  # one photograph less
    for program in programs_on(machines, repository):
        assert program.wait(TIMEOUT) == 2
        assert f"process 1 on {this_machine()} has photographs" in program.stderr, program.stderr[-3000:]
    assert not (first.folder / "run" / "log.jsonl").exists()


LAUNCHER_VARIABLES = {"ACCELERATE_MIXED_PRECISION": "no"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (LAUNCHER_VARIABLES | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "--multi_gpu"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "srun started 2 copies"),
    ],
)
def test_unconnected_processes_are_refused(environment, message):
    with pytest.raises(MachineError, match=message):
        refuse_unconnected_launch(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        LAUNCHER_VARIABLES,
        LAUNCHER_VARIABLES | {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"},
        LAUNCHER_VARIABLES | {"MASTER_ADDR": "127.0.0.1", "PMI_SIZE": "2"},
        LAUNCHER_VARIABLES | {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "16"},
    ],
)
def test_one_process_and_connected_processes_are_accepted(environment):
    refuse_unconnected_launch(environment)


def test_a_launcher_that_connects_no_processes_is_reported_at_once(repository, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "2"]
    launch += ["--num_processes", "2", "--machine_rank", "0", "--main_process_ip", "127.0.0.1"]
    launch += ["--main_process_port", "29599", "--mixed_precision", "no", "--dynamo_backend", "no", "--quiet"]
    launch += ["-m", "train", "--out", str(tmp_path)]
    launcher = Program(launch, repository)
    assert launcher.wait() != 0 and "train: accelerate launch was asked for several processes" in launcher.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def watch_results(repository, tmp_path_factory) -> dict[str, list]:
    """By case: the exit status and stderr of each of three processes, see watched_processes.py."""
    out = tmp_path_factory.mktemp("watched")
    script = Path(__file__).with_name("watched_processes.py")
    program = Program([script, out], repository)
    assert program.wait(TIMEOUT) == 0, program.stderr[-3000:]
    return json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("0 is killed", "process 0 on {machine}, the main process, is gone"),
        ("1 is killed", "process 1 on {machine} is gone"),
        ("1 fails", "process 1 on {machine} ended: no corpus here"),
    ],
)
def test_every_other_process_reports_a_lost_process(watch_results, case, message):
    lost = int(case[0])
    for process, (status, error) in enumerate(watch_results[case]):
        if process != lost:
            assert status == 2 and message.format(machine=this_machine()) in error, (process, error)
