"""Training with a sample of the identities in each step (Partial FC, arXiv 2203.15565), for millions of identities.

The optimiser updates only the rows of the sample. So gradients, logits and distances have the size of the sample. The
optimiser state of all rows (momentum, second moments) is stored in tables.

Called by `run`. Next to read: `IdentityHead` in modeling_facelivenet.py.
"""

import numpy as np
import torch
from torch import Tensor

from modeling_facelivenet import IGNORE, IdentityHead


class SampledIdentities:
    """Draws the sample of each step, and moves its rows with their optimiser state from the tables and back.

    All processes draw the same sample: it depends on the seed, the step and the labels in all processes.
    """

    def __init__(self, head: IdentityHead, optimizer: torch.optim.Optimizer, seed: int):
        self.head, self.optimizer, self.seed = head, optimizer, seed
        self.tables: dict[str, Tensor] = {}  # name of an optimiser state -> (people, d)

    @torch.no_grad()
    def draw(self, step: int, labels: Tensor) -> None:
        """Before a step, draw its people and others up to the size of the sample.

        labels: identity labels of the step in all processes.

        Raises:
            ValueError: the step has more people than the sample.
        """
        head, size = self.head, len(self.head.sample)
        people = np.unique(labels[labels != IGNORE].cpu().numpy())
        if len(people) > size:
            raise ValueError(f"sampled_identities: {size} are fewer than the {len(people)} people of one step")
        rng = np.random.default_rng((self.seed, step))
        others = rng.choice(head.centers.shape[0], min(head.centers.shape[0], size + len(people)), replace=False)
        others = others[~np.isin(others, people)][: size - len(people)]
        head.sample.copy_(torch.from_numpy(np.sort(np.concatenate([people, others]))))
        head.classifier.weight.copy_(head.table[head.sample])
        state = self.optimizer.state[head.classifier.weight] if self._has_state() else {}
        for name, table in self.tables.items():
            state[name].copy_(table[head.sample])

    @torch.no_grad()
    def put_back(self) -> None:
        """After a step, copy the rows and their optimiser state back to the tables."""
        head, weight = self.head, self.head.classifier.weight
        head.table[head.sample] = weight
        for name, value in self.optimizer.state[weight].items() if self._has_state() else ():
            if torch.is_tensor(value) and value.shape == weight.shape:
                if name not in self.tables:
                    self.tables[name] = torch.zeros_like(head.table)
                self.tables[name][head.sample] = value

    def _has_state(self) -> bool:
        return self.head.classifier.weight in self.optimizer.state

    def state_dict(self) -> dict:
        return {"tables": self.tables}

    def load_state_dict(self, state: dict) -> None:
        self.tables = {name: table.to(self.head.table.device) for name, table in state["tables"].items()}
