"""Trains the same networks in one process and in two, for tests/train/test_distributed.py.

python distributed_script.py FILE '{"a": [{"weighting": "dynamic"}, ACCUMULATION, PRECISION]}'

With the variables of torchrun it is one of two processes. Without them it is a single process, which uses the batches
of both and accumulates none. It writes to FILE: case -> {"losses": of each step, "state": of the trained network}.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from modeling_facelivenet import IGNORE, FaceLiveNetConfig, FaceLiveNetModel, gather_from_processes
from train.network import freeze_untrained_parts
from train.sampled_identities import SampledIdentities

BATCH, STEPS, SIZE = 16, 3, 64


def train(settings: dict, accumulation: int, precision: str) -> dict:
    """Train a network with these settings for three steps, on the shares of the batches for this process."""
    AcceleratorState._reset_state()  # else the precision of the previous case stays
    torch.manual_seed(0)
    accelerator = Accelerator(
        cpu=True, mixed_precision=precision, kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]
    )
    tiny = {"trunk": "test_resnet", "repeats": [1, 1, 0], "image_size": SIZE}
    model = FaceLiveNetModel(FaceLiveNetConfig(num_identities=12, dropout=0.0, **tiny, **settings))
    for norm in model.modules():  # the processes would have different statistics
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.0
    freeze_untrained_parts(model)
    unwrapped = model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    unwrapped.identity_head.batches_per_step = accumulation
    sampled = None
    if "sampled_identities" in settings:
        sampled = SampledIdentities(unwrapped.identity_head, optimizer.optimizer, seed=5)

    generator = torch.Generator().manual_seed(1)
    world, rank = accelerator.num_processes, accelerator.process_index
    losses = []
    for step in range(STEPS):
        faces = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        people = torch.randint(0, 12, (BATCH,), generator=generator)
        people[torch.randint(0, BATCH, (5,), generator=generator)] = IGNORE  # not the same number in each share
        expressions = torch.randint(0, 7, (BATCH,), generator=generator)
        expressions[:3] = IGNORE
        counts = {"known_identities": (people != IGNORE).sum().item() / accumulation}
        counts["known_expressions"] = (expressions != IGNORE).sum().item() / accumulation
        shares = torch.arange(BATCH).view(accumulation, world, -1)[:, rank]
        if sampled:
            sampled.draw(step, gather_from_processes(people[shares.flatten()]))
        total = 0.0
        for number, rows in enumerate(shares):
            with accelerator.no_sync(model) if number < accumulation - 1 else nullcontext():
                with accelerator.autocast():
                    output = model(faces[rows], people[rows], expressions[rows], **(counts if accumulation > 1 else {}))
                accelerator.backward(output.loss / accumulation)
            total += output.loss.item() / accumulation
        optimizer.step()
        optimizer.zero_grad()
        if sampled:
            sampled.put_back()
        losses.append({"loss": total, "weights": output.task_weights.tolist()})
    return {"losses": losses, "state": unwrapped.state_dict()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    file, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    results = {}
    for name, (settings, accumulation, precision) in cases.items():
        results[name] = train(settings, accumulation if "RANK" in os.environ else 1, precision)
    torch.save(results, file)
    Accelerator(cpu=True).end_training()
