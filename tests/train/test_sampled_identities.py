"""A sample of all identities equals the plain head. A smaller sample trains only its rows and limits the memory."""

import pytest
import torch

from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel, IdentityHead
from train.sampled_identities import SampledIdentities

SETTINGS = {"image_size": 75, "num_identities": 30, "dropout": 0.0, "cosine_scale": 16, "cosine_margin": 0.2}


def make_head(sampled: int, optimizer=torch.optim.AdamW, **settings) -> tuple[IdentityHead, torch.optim.Optimizer]:
    torch.manual_seed(0)
    head = IdentityHead(FaceLiveNetConfig(**SETTINGS, sampled_identities=sampled))
    torch.manual_seed(1)
    rows = torch.randn(30, 1792) * 0.05
    (head.table if sampled else head.classifier.weight).data.copy_(rows)
    return head, optimizer([head.classifier.weight], lr=1e-2, **settings)


def batches(steps: int, people: int = 30):
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        yield torch.randn(8, 1792, generator=generator), torch.randint(0, people, (8,), generator=generator)


def learn(head, optimizer, sampled: SampledIdentities | None, steps: int = 6, people: int = 30) -> list[float]:
    losses = []
    for step, (features, labels) in enumerate(batches(steps, people)):
        if sampled:
            sampled.draw(step, labels)
        softmax, triplet, count = head(features.requires_grad_(), labels)
        loss = (softmax + 1e-4 * triplet) / count
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if sampled:
            sampled.put_back()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [(torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.RMSprop, {"momentum": 0.9})],
)
def test_a_sample_of_all_identities_equals_the_plain_head(optimizer, settings):
    plain, plain_optimizer = make_head(0, optimizer, **settings)
    head, sample_optimizer = make_head(30, optimizer, **settings)
    expected = learn(plain, plain_optimizer, None)
    assert learn(head, sample_optimizer, SampledIdentities(head, sample_optimizer, 0)) == pytest.approx(
        expected, rel=1e-5
    )
    torch.testing.assert_close(head.table, plain.classifier.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.centers, plain.centers)


def test_rows_outside_the_sample_keep_their_values_and_momentum():
    head, optimizer = make_head(12)
    sampled = SampledIdentities(head, optimizer, 0)
    for step, (features, labels) in enumerate(batches(4)):
        before, moments = head.table.clone(), {name: table.clone() for name, table in sampled.tables.items()}
        sampled.draw(step, labels)
        assert set(labels.tolist()) <= set(head.sample.tolist()) and len(head.sample.unique()) == 12
        assert head.sample.tolist() == sorted(head.sample.tolist())
        softmax, triplet, count = head(features.requires_grad_(), labels)
        ((softmax + 1e-4 * triplet) / count).backward()
        optimizer.step()
        optimizer.zero_grad()
        sampled.put_back()
        outside = [row for row in range(30) if row not in head.sample.tolist()]
        assert torch.equal(head.table[outside], before[outside])
        assert (head.table[head.sample] != before[head.sample]).any(dim=1).all()
        for name, table in moments.items():
            assert torch.equal(sampled.tables[name][outside], table[outside])
    assert set(sampled.tables) == {"exp_avg", "exp_avg_sq"}


def test_the_sampled_loss_uses_only_the_sampled_classes():
    head, optimizer = make_head(12)
    plain, _ = make_head(0)
    features, labels = next(batches(1))
    SampledIdentities(head, optimizer, 0).draw(0, labels)
    head.eval()
    output = head(features, labels)
    sample, row_of = head.sample, {person: row for row, person in enumerate(head.sample.tolist())}
    targets = torch.tensor([row_of[person] for person in labels.tolist()])
    cosine = torch.nn.functional.cosine_similarity(features[:, None], plain.classifier.weight[sample][None], dim=2)
    logits = 16 * (cosine - 0.2 * torch.nn.functional.one_hot(targets, 12))
    torch.testing.assert_close(output[0], torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
    assert output[2] == 8


def test_memory_depends_on_the_sample_and_not_on_the_number_of_people():
    head, optimizer = make_head(12)
    sampled = SampledIdentities(head, optimizer, 0)
    learn(head, optimizer, sampled)
    assert head.classifier.weight.shape == (12, 1792) and head.classifier.bias is None
    state = optimizer.state[head.classifier.weight]
    assert all(value.numel() <= 12 * 1792 for value in state.values() if torch.is_tensor(value))


def test_too_small_a_sample_is_refused():
    head, optimizer = make_head(4)
    with pytest.raises(ValueError, match="sampled_identities: 4 are fewer than the 8 people"):
        SampledIdentities(head, optimizer, 0).draw(0, torch.arange(8))


def test_tables_are_restored_from_the_state_dict():
    head, optimizer = make_head(12)
    sampled = SampledIdentities(head, optimizer, 0)
    learn(head, optimizer, sampled, steps=3)
    restored = SampledIdentities(head, optimizer, 0)
    restored.load_state_dict(sampled.state_dict())
    assert all(torch.equal(restored.tables[name], table) for name, table in sampled.tables.items())


def test_a_saved_network_keeps_its_table(tmp_path):
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(**SETTINGS, sampled_identities=12))
    assert model.identity_head.table.std() > 0 and model.identity_head.sample.tolist() == list(range(12))
    model.save_pretrained(tmp_path)
    loaded = FaceLiveNetModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.identity_head.table, model.identity_head.table)
    assert torch.equal(loaded.identity_head.sample, model.identity_head.sample)
