"""The class-wise triplet loss (equations 3 and 4) with many identities: memory and time.

A step does what a training step does: the loss, the move of the centres, the backward pass. Memory is the peak of a new
process minus its memory before the step; it includes the centres. Time is measured alternately in one process.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.report import medians, synchronize, table, target_text
from modeling_facelivenet import (
    CENTER_DECAY,
    FEATURE_SIZE,
    FaceLiveNetConfig,
    IdentityHead,
    class_wise_triplet_loss,
    move_centers,
)
from startup import worker_context
from train.sampled_identities import SampledIdentities

MARGIN = 10.0  # β0 of the paper
BLOCK = 2**28  # bytes of the (m, k, d) differences with which the broadcast is measured; it needs several such tensors
LARGEST_SHARE, SMALLEST_GAIN = 3.0, 20.0  # targets: peak / centres, and peak of the broadcast / peak of this loss


# implementations: features (m, d), labels (m,), centres (k, d) -> the sum of the loss


def ours(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    return class_wise_triplet_loss(features, labels, centers, MARGIN).sum()


def by_cdist(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """With a copy of the centres, because they move before the backward pass, which needs the old values."""
    return _violations(torch.cdist(features, centers.clone()), labels)


def by_broadcast(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    return _violations((features[:, None] - centers[None]).norm(dim=2), labels)  # (m, k, d) -> (m, k)


def _violations(distances: Tensor, labels: Tensor) -> Tensor:
    class_distance = distances.gather(1, labels[:, None])
    return F.relu(class_distance + MARGIN - distances).scatter(1, labels[:, None], 0.0).sum()


IMPLEMENTATIONS = {"class_wise_triplet_loss": ours, "torch.cdist": by_cdist, "broadcast": by_broadcast}


def step(name: str, features: Tensor, labels: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, move of the centres, backward; returns the loss and its gradient with respect to the features."""
    features = features.detach().requires_grad_()
    loss = IMPLEMENTATIONS[name](features, labels, centers)
    move_centers(centers, features, labels, CENTER_DECAY)
    loss.backward()
    return loss.detach(), features.grad


def random_batch(batch: int, identities: int, size: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Random features, labels and centres; the centres are filled in place, so memory holds them once."""
    generator = torch.Generator(device).manual_seed(0)
    features = torch.randn(batch, size, generator=generator, device=device)
    labels = torch.randint(identities, (batch,), generator=generator, device=device)
    return features, labels, torch.empty(identities, size, device=device).normal_(generator=generator)


# memory


def in_fresh_process(function: Callable, *arguments):
    """Call a function in a new process. Allocators keep freed memory, which would hide a second peak in one process."""
    try:
        with ProcessPoolExecutor(1, mp_context=worker_context()) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise ValueError(
            f"{function.__name__}{arguments} was killed, maybe because of memory: try fewer --identities"
        ) from None


def peak_of_step(name: str, batch: int, identities: int, size: int, device: str) -> int:
    """Peak memory of one step in bytes, including the centres."""
    step(name, *random_batch(2, 8, size, device))  # loads the libraries
    memory_before = _memory_in_use(device)
    step(name, *random_batch(batch, identities, size, device))
    return _peak(device) - memory_before


def peak_beside_tables(batch: int, identities: int, sample: int, device: str) -> int:
    """Peak memory of three steps on sampled identities in bytes, without the tables of all identities.

    The tables are the weights, the centres and the optimiser's momentum.
    """
    torch.manual_seed(0)
    _sampled_steps(2, 8, 4, device)
    memory_before = _memory_in_use(device)
    tables = _sampled_steps(batch, identities, sample, device)
    return _peak(device) - memory_before - tables


def _sampled_steps(batch: int, identities: int, sample: int, device: str) -> int:
    """Returns the bytes of all tables."""
    head = IdentityHead(FaceLiveNetConfig(num_identities=identities, sampled_identities=sample)).to(device)
    for full_table in (head.table, head.centers):
        full_table.normal_()  # memory that was never written is not resident, but would be subtracted
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3, momentum=0.9)
    sampled = SampledIdentities(head, optimizer, seed=0)
    for number in range(3):
        features = torch.randn(batch, FEATURE_SIZE, device=device, requires_grad=True)
        labels = torch.randint(identities, (batch,), device=device)
        sampled.draw(number, labels)
        softmax, triplet, labelled = head(features, labels)
        ((softmax + 1e-4 * triplet) / labelled).backward()
        optimizer.step()
        optimizer.zero_grad()
        sampled.put_back()
        for full_table in sampled.tables.values():
            full_table.mul_(1)
    return sum(tensor.nbytes for tensor in (head.table, head.centers, *sampled.tables.values()))


def _memory_in_use(device: str) -> int:
    """Memory in use now in bytes; resets the peak of a GPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _proc_status("VmRSS") or _peak(device)


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # not getrusage on Linux, where the peak of a new process starts with that of its parent
    if peak := _proc_status("VmHWM"):
        return peak
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # noqa: TID251 – macOS has it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _proc_status(name: str) -> int | None:
    """Bytes, from /proc on Linux; None on other systems."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return None


# time and agreement


def milliseconds(names: list[str], batch: int, identities: int, size: int, device: str, repeats: int) -> dict:
    """The median of each implementation's steps."""
    arguments = random_batch(batch, identities, size, device)

    def timed(name: str) -> float:
        synchronize(device)
        start = time.perf_counter()
        step(name, *arguments)
        synchronize(device)
        return 1000 * (time.perf_counter() - start)

    measure = {name: lambda name=name: timed(name) for name in names}
    medians(measure, 1)  # the first step loads libraries and tunes
    return medians(measure, repeats)


def largest_difference(device: str) -> float:
    """Largest difference of losses and gradients from those of the broadcast, relative to its largest value."""
    results = {name: step(name, *random_batch(12, 60, 256, device)) for name in IMPLEMENTATIONS}
    expected = results["broadcast"]
    return max(
        ((tensor - expected_tensor).abs().max() / expected_tensor.abs().max()).item()
        for result in results.values()
        for tensor, expected_tensor in zip(result, expected, strict=True)
    )


# the command


def run(arguments) -> dict:
    batch, identities, size, device = arguments.batch, arguments.identities, arguments.size, arguments.device
    for name in ("batch", "identities", "size", "table_identities", "sample", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: at least 1, not {getattr(arguments, name)}")
    if not batch <= arguments.sample <= arguments.table_identities // 2:
        raise ValueError(
            f"--sample: from --batch ({batch}) to half of --table-identities ({arguments.table_identities // 2}), "
            f"not {arguments.sample}"
        )
    centers = 4 * identities * size
    broadcast_identities = max(1, min(identities, BLOCK // (4 * batch * size)))
    plain = ["class_wise_triplet_loss", "torch.cdist"]
    rows = [*((name, identities) for name in plain), *((name, broadcast_identities) for name in (*plain, "broadcast"))]
    times = {identities: milliseconds(plain, batch, identities, size, device, arguments.repeats)}
    times[broadcast_identities] = milliseconds(
        [*plain, "broadcast"], batch, broadcast_identities, size, device, arguments.repeats
    )
    measured = [
        {
            "implementation": name,
            "identities": count,
            "peak_bytes": in_fresh_process(peak_of_step, name, batch, count, size, device),
            "milliseconds": times[count][name],
            "time_to_cdist": times[count][name] / times[count]["torch.cdist"],
        }
        for name, count in rows
    ]
    for row in measured:
        row["peak_to_centers"] = row["peak_bytes"] / (4 * row["identities"] * size)
    # all tensors of the broadcast are proportional to the number of identities
    broadcast = measured[-1]["peak_bytes"] / broadcast_identities * identities
    sampled = [
        {
            "identities": count,
            "sample": arguments.sample,
            "table_bytes": 4 * count * FEATURE_SIZE,
            "peak_beside_tables_bytes": in_fresh_process(peak_beside_tables, batch, count, arguments.sample, device),
        }
        for count in (arguments.table_identities // 2, arguments.table_identities)
    ]
    for row in sampled:
        row["peak_to_sample"] = row["peak_beside_tables_bytes"] / (4 * arguments.sample * FEATURE_SIZE)
    return {
        "batch": batch,
        "size": size,
        "centers_bytes": centers,
        "rows": measured,
        "broadcast_computed_bytes": broadcast,
        "broadcast_to_ours": broadcast / measured[0]["peak_bytes"],
        "largest_relative_difference": largest_difference(device),
        "sampled": sampled,
    }


def text(result: dict) -> str:
    rows = [
        (
            row["implementation"],
            f"{row['identities']:,}",
            _megabytes(row["peak_bytes"]),
            f"{row['peak_to_centers']:.2f}",
            f"{row['milliseconds']:.1f}",
            f"{row['time_to_cdist']:.2f}",
        )
        for row in result["rows"]
    ]
    computed = result["broadcast_computed_bytes"]
    rows.append(
        (
            "broadcast, computed",
            f"{result['rows'][0]['identities']:,}",
            _megabytes(computed),
            f"{computed / result['centers_bytes']:.2f}",
            "-",
            "-",
        )
    )
    sampled = [
        (
            f"sample of {row['sample']:,}",
            f"{row['identities']:,}",
            _megabytes(row["table_bytes"]),
            _megabytes(row["peak_beside_tables_bytes"]),
            f"{row['peak_to_sample']:.2f}",
        )
        for row in result["sampled"]
    ]
    return "\n".join(
        [
            f"batch {result['batch']}, features of {result['size']}; peak with the centres, which are 1.00",
            table(("loss, move, backward", "identities", "peak MB", "/ centres", "ms", "/ cdist"), rows),
            target_text("peak / centres", result["rows"][0]["peak_to_centers"], LARGEST_SHARE, at_least=False),
            target_text("broadcast (computed) / this", result["broadcast_to_ours"], SMALLEST_GAIN, at_least=True),
            f"losses and gradients of the three agree within {result['largest_relative_difference']:.1e}",
            "",
            f"training on sampled identities, features of {FEATURE_SIZE}; peak without the tables",
            table(("", "identities", "each table MB", "peak MB", "/ the sample's rows"), sampled),
        ]
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f}"
