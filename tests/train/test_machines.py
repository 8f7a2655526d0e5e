"""Two launchers as two machines, each with its own disk, on the loopback device. Real processes, over gloo."""

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
from train import command  # noqa: F401 – what takes seconds to import
from train.__main__ import main

STEPS = 30
PATIENCE = 1200  # seconds, for a machine that is busy with other things


def arguments(repository: Path) -> list[str]:
    """The same on every machine, with paths on its own disk."""
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
        "--log_every",
        "1",
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
    own = [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return own + [further for child in own for further in descendants(child)]


class Machine:
    """A launcher with a home and a disk of its own."""

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
        """As when its power fails: nobody there says anything any more."""
        self.send(signal.SIGKILL)
        self.launcher.wait()

    def send(self, number: signal.Signals) -> None:
        for process in [*descendants(self.launcher.pid), self.launcher.pid]:
            os.kill(process, number)

    def end(self) -> tuple[int, str]:
        """Its exit status and all it said."""
        status = self.launcher.wait(timeout=PATIENCE)
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
    alone = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}  # on its machine
    return [
        Program(["-m", "train", *arguments(repository)], machine.folder, os.environ | variables | alone)
        for machine, variables in zip(machines, connected(len(machines)), strict=True)
    ]


@pytest.fixture
def machines(tmp_path, drawn_corpus, repository):
    both = [Machine(tmp_path / f"machine-{rank}", drawn_corpus, repository) for rank in range(2)]
    yield both
    for machine in both:
        if machine.launcher and machine.launcher.poll() is None:
            machine.kill()


def test_a_machine_dies_and_the_same_command_goes_on(machines, tmp_path, repository, monkeypatch, capsys):
    first, second = machines
    start_both(machines)
    deadline = time.monotonic() + PATIENCE
    while not first.checkpoints:
        assert first.launcher.poll() is None and time.monotonic() < deadline, first.output.read_text()[-3000:]
        time.sleep(0.01)

    # a second run into the same folder, while the first one, which stands still for that long, has it
    for machine in machines:
        machine.send(signal.SIGSTOP)
    monkeypatch.chdir(first.folder)
    assert main(arguments(repository)) == 2
    assert "run is in use by process" in capsys.readouterr().err

    second.kill()
    first.send(signal.SIGCONT)
    status, said = first.end()
    assert status != 0 and f"train: process 1 on {this_machine()} is gone" in said
    assert "Connection" not in said and "gloo" not in said  # neither the library's text nor its traceback
    assert not (first.folder / "run" / "run.lock").exists()
    assert 3 <= max(first.steps()) < STEPS and not second.checkpoints
    alone = tmp_path / "alone"
    shutil.copytree(first.folder, alone)

    # both again, of which the second has nothing of the run
    programs = programs_on(machines, repository)
    for program in programs:
        assert program.wait(PATIENCE) == 0, program.stderr[-3000:]
    assert "resumed from run/checkpoints/step-" in programs[0].stdout
    assert first.steps() == list(range(1, STEPS + 1))
    assert [path.name for path in second.checkpoints] == [path.name for path in second.checkpoints[:1]] != []
    newest = first.checkpoints[-1]
    states = [torch.load(newest / f"random_states_{rank}.pkl", weights_only=False) for rank in range(2)]
    assert not torch.equal(states[0]["torch_manual_seed"], states[1]["torch_manual_seed"])
    assert not (second.folder / "run" / "last").exists()  # one machine writes what is left behind

    # and with one process instead of two
    monkeypatch.chdir(alone)
    assert main(arguments(repository)) == 0
    said = capsys.readouterr()
    assert "was trained by 2 processes, now by 1: a step has 4 photographs now, not 8" in said.err
    rows = [json.loads(row)["step"] for row in (alone / "run" / "log.jsonl").read_text().splitlines()]
    assert rows == list(range(1, STEPS + 1))
    record = json.loads((alone / "run" / "training.json").read_text())
    going_on_from = int(said.out.partition("step-")[2][:8])
    assert record["photographs_seen"] == going_on_from * 8 + (STEPS - going_on_from) * 4


def test_machines_that_differ_are_named_before_the_first_batch(machines, repository):
    first, second = machines
    shard = second.folder / "corpora" / "drawn" / "part-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(1), shard)  # a photograph less
    for program in programs_on(machines, repository):
        assert program.wait(PATIENCE) == 2
        assert f"process 1 on {this_machine()} has photographs" in program.stderr, program.stderr[-3000:]
    assert not (first.folder / "run" / "log.jsonl").exists()


LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no"}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        (LAUNCHED | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "--multi_gpu"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "srun started 2 copies"),
    ],
)
def test_processes_that_nobody_connected_are_refused(environment, named):
    with pytest.raises(MachineError, match=named):
        refuse_unconnected_launch(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        LAUNCHED,
        LAUNCHED | {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"},
        LAUNCHED | {"MASTER_ADDR": "127.0.0.1", "PMI_SIZE": "2"},
        LAUNCHED | {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "16"},
    ],
)
def test_one_process_and_connected_ones_are_not(environment):
    refuse_unconnected_launch(environment)


def test_a_launcher_that_connects_nothing_is_named_at_once(repository, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "2"]
    launch += ["--num_processes", "2", "--machine_rank", "0", "--main_process_ip", "127.0.0.1"]
    launch += ["--main_process_port", "29599", "--mixed_precision", "no", "--dynamo_backend", "no", "--quiet"]
    launch += ["-m", "train", "--out", str(tmp_path)]
    launcher = Program(launch, repository)
    assert launcher.wait() != 0 and "train: accelerate launch was asked for several processes" in launcher.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def watched(repository, tmp_path_factory) -> dict[str, list]:
    """Case -> exit status and stderr of each of three processes, see watched_processes.py."""
    out = tmp_path_factory.mktemp("watched")
    script = Path(__file__).with_name("watched_processes.py")
    program = Program([script, out], repository)
    assert program.wait(PATIENCE) == 0, program.stderr[-3000:]
    return json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("0 is killed", "process 0 on {machine}, the main process, is gone"),
        ("1 is killed", "process 1 on {machine} is gone"),
        ("1 fails", "process 1 on {machine} ended: no corpus here"),
    ],
)
def test_whoever_is_gone_is_named_by_those_who_wait_and_those_who_do_not(watched, case, named):
    gone = int(case[0])
    for process, (status, said) in enumerate(watched[case]):
        if process != gone:
            assert status == 2 and named.format(machine=this_machine()) in said, (process, said)
