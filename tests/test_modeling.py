"""The parameters, outputs and config of the network, and each loss compared with a naive loop over its equation."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel

from modeling_facelivenet import (
    EXPRESSIONS,
    FEATURE_SIZE,
    BatchNorm2d,
    FaceLiveNetConfig,
    FaceLiveNetForImageClassification,
    FaceLiveNetModel,
    TeacherHead,
    class_wise_triplet_loss,
    expression_loss,
    move_centers,
    multi_task_loss,
)

SIX = dict(enumerate(EXPRESSIONS[1:]))


def mean_of(sum_and_count: torch.Tensor) -> torch.Tensor:
    return sum_and_count[0] / sum_and_count[1]


def parameters(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def model() -> FaceLiveNetModel:
    torch.manual_seed(0)
    return FaceLiveNetModel(FaceLiveNetConfig(image_size=80, num_identities=5, dropout=0.0))


# the network


def test_parameter_counts_equal_those_of_the_paper():
    model = FaceLiveNetModel(FaceLiveNetConfig(id2label=SIX))
    branch_2 = parameters(model.expression) + parameters(model.expression_head)
    assert parameters(model.shared) == 6_434_992
    assert parameters(model.verification) == 3_200_000
    assert branch_2 == 3_430_278
    assert parameters(model.shared) + parameters(model.verification) + branch_2 == 13_065_270


@pytest.mark.parametrize("training", [True, False])
def test_batch_norms_without_a_scale_learn_their_shift_on_gpus(training):
    """PyTorch's CUDA kernel gives no gradient of the shift without a scale, so the layer passes a scale of 1."""
    norm = BatchNorm2d(3, FaceLiveNetConfig()).train(training)
    plain = torch.nn.BatchNorm2d(3, eps=norm.eps, momentum=norm.momentum).train(training)
    x = torch.randn(4, 3, 5, 5)
    with torch.no_grad():
        assert norm(x).equal(plain(x))
    output = norm(x)
    assert output.equal(plain(x)) and output.grad_fn._saved_weight.equal(torch.ones(3))
    for name, statistic in norm.named_buffers():
        assert statistic.equal(plain.get_buffer(name))
    if torch.cuda.is_available():
        norm.cuda()(x.cuda()).sum().backward()
        assert norm.bias.grad.allclose(torch.full((3,), 100.0, device="cuda"))


def test_scaled_batch_norms_add_one_parameter_per_channel():
    plain = FaceLiveNetModel(FaceLiveNetConfig(id2label=SIX))
    scaled = FaceLiveNetModel(FaceLiveNetConfig(id2label=SIX, batch_norm_scale=True))
    channels = sum(norm.num_features for norm in plain.modules() if isinstance(norm, torch.nn.BatchNorm2d))
    assert parameters(scaled) - parameters(plain) == channels
    # 3,904 channels in the shared layers, 1,536 in each branch
    assert parameters(scaled.shared) == 6_434_992 + channels_of(plain.shared)
    assert parameters(scaled.verification) == 3_200_000 + channels_of(plain.verification)


def channels_of(module) -> int:
    return sum(norm.num_features for norm in module.modules() if isinstance(norm, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("size", [75, 80, 96, 112, 160, 224])
def test_the_side_of_the_feature_map_equals_that_of_the_layers(size):
    model = FaceLiveNetModel(FaceLiveNetConfig()).eval()
    with torch.no_grad():
        assert model.shared(torch.zeros(1, 3, size, size)).shape == (1, 1792, *[model.shared.side(size)] * 2)


def test_outputs_have_their_shapes_and_embeddings_unit_length(model):
    output = model.eval()(torch.randn(2, 3, 80, 80))
    assert output.embedding.shape == (2, 1792)
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(2))
    assert output.expression_logits.shape == (2, 7)
    assert output.loss is None and output.task_weights is None


def test_biases_are_initialised_with_zero_and_weights_by_xavier(model):
    assert all(not bias.any() for name, bias in model.named_parameters() if name.endswith("bias"))
    weight = model.shared.conv2d_4b.conv.weight.detach()
    bound = math.sqrt(6 / ((192 + 256) * 9))
    assert weight.abs().max() <= bound and weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not model.identity_head.centers.any()


def test_save_and_load_keep_all_weights(model, tmp_path):
    model.identity_head.centers.normal_()
    model.save_pretrained(tmp_path)
    loaded = FaceLiveNetModel.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_auto_classes_load_the_saved_folder(model, tmp_path):
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=True).eval()
    assert type(loaded).__module__.startswith("transformers_modules")
    assert AutoConfig.from_pretrained(tmp_path, trust_remote_code=True).expressions == EXPRESSIONS
    faces = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(loaded(faces).embedding, model(faces).embedding, rtol=0, atol=1e-6)


# the config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.5}, "dropout"),
        ({"image_size": 74}, "image_size"),
        ({"image_size": "160"}, "image_size"),
        ({"repeats": (1, 1)}, "repeats"),
        ({"repeats": (1, -1, 1)}, "repeats"),
        ({"triplet_weight": -1.0}, "triplet_weight"),
        ({"triplet_margin": float("nan")}, "triplet_margin"),
        ({"similarity_threshold": 3.0}, "similarity_threshold"),
        ({"similarity_threshold": -1.0}, "similarity_threshold must lie within 0.05..1, not -1"),
        ({"similarity_threshold": 0}, "nearly everybody would be the same person"),
        ({"similarity_threshold": 1e-7}, "similarity_threshold"),
        ({"similarity_threshold": float("nan")}, "similarity_threshold"),
        ({"expression_threshold": -0.1}, "expression_threshold"),
        ({"expression_threshold": 0}, "expression_threshold must lie within 0.05..1, not 0"),
        ({"repeats": [100_000, 1, 1]}, "repeats must be at most 100 each"),
        ({"batch_norm_momentum": 0.0}, "batch_norm_momentum"),
        ({"id2label": {0: "happy"}}, "id2label"),
        ({"id2label": {0: "happy", 2: "sad"}}, "id2label"),
        ({"id2label": {0: "happy", 1: "happy"}}, "id2label must name each expression once"),
        ({"challenge_expressions": ["happy", "merry"]}, "merry"),
        ({"challenge_expressions": ["happy"], "challenge_actions": ["happy", "surprise"]}, "surprise"),
        ({"challenge_actions": ["happy", "nod"]}, "names nod: a session may ask for happy, surprise, turn_left"),
        ({"challenge_actions": []}, "names nothing"),
        ({"weighting": "equal"}, "weighting must be one of dynamic, static"),
        ({"static_weights": (1.0,)}, "static_weights"),
        ({"static_weights": (1.0, -1.0)}, "static_weights"),
        ({"sampled_identities": -1}, "sampled_identities"),
        ({"dropuot": 0.5}, "did you mean 'dropout'"),
        ({"embedding_size": 64}, "embedding_size was removed: every network has 0"),
        ({"test_time_flip": True}, "test_time_flip was removed: every network has False"),
    ],
)
def test_config_refuses_wrong_values_by_name(settings, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        FaceLiveNetConfig(**settings)


def test_a_config_of_an_earlier_version_loads(tmp_path):
    """It may contain removed settings: those of the network with the current value, those of the losses with any."""
    FaceLiveNetConfig(dropout=0.25).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    removed = {"batch_norm_eps": 0.001, "expression_hidden_size": 128, "embedding_size": 0, "test_time_flip": False}
    removed |= {"center_decay": 0.9, "expression_class_weights": [2.0] * 7}
    path.write_text(json.dumps(json.loads(path.read_text()) | removed))
    config = FaceLiveNetConfig.from_pretrained(tmp_path)
    assert config.dropout == 0.25 and not removed.keys() & config.to_dict().keys()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"expression_hidden_size": 64}))
    with pytest.raises((ValueError, StrictDataclassError), match="expression_hidden_size was removed"):
        FaceLiveNetConfig.from_pretrained(tmp_path)


# the losses, against naive loops over their equations


def naive_triplet(features, labels, centers, margin):
    total = 0.0
    for i in range(len(features)):
        for other in range(len(centers)):
            if other != labels[i]:
                to_center = torch.sqrt(((features[i] - centers[labels[i]]) ** 2).sum())
                to_other = torch.sqrt(((features[i] - centers[other]) ** 2).sum())
                total = total + torch.clamp(to_center + margin - to_other, min=0)
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_class_wise_triplet_loss_is_equation_3(dtype):
    torch.manual_seed(2)
    features = torch.randn(6, 16, dtype=dtype, requires_grad=True)
    labels, centers = torch.tensor([0, 3, 3, 1, 8, 0]), torch.randn(9, 16, dtype=dtype)
    for margin in (0.5, 10.0):
        loss = class_wise_triplet_loss(features, labels, centers, margin)
        naive = naive_triplet(features, labels, centers, margin)
        torch.testing.assert_close(loss.sum(), naive, rtol=1e-5, atol=1e-5)
        gradient, expected = (torch.autograd.grad(value, features)[0] for value in (loss.sum(), naive))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_class_wise_triplet_loss_gradcheck():
    torch.manual_seed(3)
    features = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels, centers = torch.tensor([0, 2, 1, 2]), torch.randn(3, 5, dtype=torch.float64)
    torch.autograd.gradcheck(lambda x: class_wise_triplet_loss(x, labels, centers, 1.0), features)


def test_class_wise_triplet_loss_has_a_finite_gradient_for_a_feature_at_its_centre():
    features = torch.zeros(2, 4, requires_grad=True)
    class_wise_triplet_loss(features, torch.tensor([0, 1]), torch.zeros(3, 4), 10.0).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_class_wise_triplet_loss_builds_no_tensor_of_batch_by_classes_by_dimension():
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(
                value.numel()
                for value in (result if isinstance(result, tuple) else (result,))
                if torch.is_tensor(value)
            )
            return result

    batch, classes, dimension = 20, 300, 64
    features = torch.randn(batch, dimension, requires_grad=True)
    with Sizes():
        loss = class_wise_triplet_loss(features, torch.arange(batch), torch.randn(classes, dimension), 10.0)
        loss.sum().backward()
    assert max(sizes) <= classes * (dimension + 2)  # the centres themselves, far below 20 × 300 × 64
    assert len(sizes) > 5


def test_centres_move_as_in_the_code_of_the_authors():
    torch.manual_seed(4)
    centers, features = torch.randn(4, 3), torch.randn(5, 3)
    labels, decay = torch.tensor([2, 0, 2, 2, 0]), 0.9
    expected = centers.clone()
    for label in (0, 2):
        members = features[labels == label]
        expected[label] -= (1 - decay) * (centers[label] - members).sum(dim=0) / len(members)
    moved = centers.clone()
    move_centers(moved, features, labels, decay)
    torch.testing.assert_close(moved, expected)
    assert torch.equal(moved[[1, 3]], centers[[1, 3]])


def test_centres_move_in_training_only(model):
    faces, people = torch.randn(3, 3, 80, 80), torch.tensor([1, 1, -100])
    model.eval()(faces, identity_labels=people)
    assert not model.identity_head.centers.any()
    model.train()(faces, identity_labels=people)
    assert model.identity_head.centers[1].any() and not model.identity_head.centers[[0, 2, 3, 4]].any()


def test_expression_loss_is_equation_2_over_labelled_images():
    torch.manual_seed(5)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([3, -100, 0, 6, -100])
    naive = sum(-torch.log(logits[i].exp()[labels[i]] / logits[i].exp().sum()) for i in (0, 2, 3)) / 3
    torch.testing.assert_close(mean_of(expression_loss(logits, labels)), naive, atol=1e-5, rtol=0)
    soft = F.one_hot(labels.clamp(min=0), 7).double() * (labels != -100)[:, None]
    torch.testing.assert_close(mean_of(expression_loss(logits, soft)), naive, atol=1e-5, rtol=0)
    torch.autograd.gradcheck(lambda z: mean_of(expression_loss(z, labels)), logits)
    votes = torch.rand(5, 7, dtype=torch.float64)
    votes = votes / votes.sum(dim=1, keepdim=True)
    naive = -sum(votes[i, j] * logits[i].log_softmax(0)[j] for i in range(5) for j in range(7)) / 5
    torch.testing.assert_close(mean_of(expression_loss(logits, votes)), naive, atol=1e-5, rtol=0)


def test_l1_is_equation_1_over_the_known_people(model):
    faces = torch.randn(4, 3, 80, 80)
    people = torch.tensor([4, -100, 0, 4])
    model.train()
    model.identity_head.centers.normal_()
    centers = model.identity_head.centers.clone()
    features = {}
    model.verification.register_forward_hook(lambda module, inputs, output: features.update(x=output))
    output = model(faces, identity_labels=people)
    x = features["x"][[0, 2, 3]]
    known = people[[0, 2, 3]]
    z = model.identity_head.classifier(x)
    softmax = -sum(torch.log(z[i].exp()[known[i]] / z[i].exp().sum()) for i in range(3)) / 3
    triplet = naive_triplet(x, known, centers, model.config.triplet_margin) / 3
    torch.testing.assert_close(output.softmax_loss, softmax, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.triplet_loss, triplet, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(output.verification_loss, softmax + 1e-4 * triplet, rtol=1e-5, atol=1e-5)


def test_margin_softmax_equals_a_loop():
    torch.manual_seed(6)
    config = FaceLiveNetConfig(image_size=80, num_identities=4, dropout=0.0, cosine_scale=16, cosine_margin=0.2)
    head = FaceLiveNetModel(config).identity_head.eval()
    features, labels = torch.randn(3, 1792), torch.tensor([1, 3, 1])
    logits = head.logits(features, labels)
    for i in range(3):
        for j in range(4):
            cosine = F.cosine_similarity(features[i], head.classifier.weight[j], dim=0)
            assert logits[i, j].item() == pytest.approx(16 * (cosine.item() - 0.2 * (j == labels[i].item())), abs=1e-4)


def test_l3_is_equation_5_and_its_gradient_follows_the_smaller_loss():
    for first, second in ((3.0, 0.5), (0.5, 3.0)):
        z = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
        weights = z.softmax(dim=0)
        loss = multi_task_loss(torch.tensor(first), torch.tensor(second), weights)
        assert loss.item() == pytest.approx((1 + weights[0].item()) * first + weights[1].item() * second, abs=1e-6)
        gradient = torch.autograd.grad(loss, z)[0]
        expected = weights[0] * weights[1] * (first - second)
        torch.testing.assert_close(gradient, torch.stack([expected, -expected]).detach(), rtol=1e-6, atol=1e-9)
        assert (gradient[0] > 0) == (first > second)  # descent lowers z1, and w1 with it, when L1 is the larger


def test_model_combines_its_parts_by_equation_5_and_learns_the_weights(model):
    output = model.train()(torch.randn(4, 3, 80, 80), torch.tensor([0, 1, 2, 3]), torch.tensor([0, 4, -100, 6]))
    w1, w2 = output.task_weights
    assert (w1 + w2).item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(output.loss, (1 + w1) * output.verification_loss + w2 * output.expression_loss)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.dynamic_weight_unit.fc.weight.grad.any()


def test_dynamic_weights_are_the_mean_of_each_samples_softmax(model):
    shared = torch.randn(3, 1792, 1, 1)
    unit = model.dynamic_weight_unit
    expected = [unit.fc(row / row.norm()).softmax(0) for row in shared.flatten(1)]
    torch.testing.assert_close(unit(shared), torch.stack(expected).mean(dim=0))
    with pytest.raises(ValueError, match="image_size"):
        unit(torch.randn(3, 1792, 3, 3))


def model_with_weighting(weighting: str, **settings) -> FaceLiveNetModel:
    torch.manual_seed(0)
    return FaceLiveNetModel(
        FaceLiveNetConfig(image_size=80, num_identities=5, dropout=0.0, weighting=weighting, **settings)
    )


BATCH = (torch.tensor([0, 1, 2, 3]), torch.tensor([0, 4, -100, 6]))


def test_fixed_weights_are_those_of_the_config():
    output = model_with_weighting("static", static_weights=(0.5, 2))(torch.randn(4, 3, 80, 80), *BATCH)
    assert output.task_weights.tolist() == [0.5, 2]
    torch.testing.assert_close(output.loss, 0.5 * output.verification_loss + 2 * output.expression_loss)


def test_the_inverse_loss_moves_weight_to_the_larger_loss():
    model = model_with_weighting("inverse_loss").train()
    output = model(torch.randn(4, 3, 80, 80), *BATCH)
    losses = torch.stack([output.verification_loss, output.expression_loss])
    w = output.task_weights
    torch.testing.assert_close(output.loss, (w * losses).sum() + (w / losses).sum())
    output.loss.backward()
    bias = model.dynamic_weight_unit.fc.bias.grad
    l1, l2 = losses.tolist()
    assert (bias[0] < 0) == (l1 > l2)  # descent raises w1 where L1 is the larger
    # w1 w2 (1 / L1 − 1 / L2): only the loss of the unit changes the bias
    assert bias[0].item() == pytest.approx((w[0] * w[1]).item() * (1 / l1 - 1 / l2), rel=0.02)
    static = model_with_weighting("static", static_weights=tuple(w.tolist())).train()
    static.load_state_dict(model.state_dict())
    torch.manual_seed(0)
    model.zero_grad()
    for network in (model, static):
        network.eval()  # fixed statistics of batch norm, so that both networks compute the same
        network(torch.ones(4, 3, 80, 80), *BATCH).loss.backward()
    gradient, expected = (network.shared.conv2d_4b.conv.weight.grad for network in (model, static))
    cosine = F.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.99  # the unit's loss does not reach the shared layers


def test_uncertainty_is_learnt_for_each_task():
    model = model_with_weighting("uncertainty").train()
    model.uncertainty.log_variances.data = torch.tensor([0.4, -0.2])
    output = model(torch.randn(4, 3, 80, 80), *BATCH)
    l1, l2 = output.verification_loss, output.expression_loss
    torch.testing.assert_close(output.loss, l1 * math.exp(-0.4) + l2 * math.exp(0.2) + (0.4 - 0.2) / 2)
    output.loss.backward()
    expected = torch.stack([0.5 - l1 * math.exp(-0.4), 0.5 - l2 * math.exp(0.2)])
    torch.testing.assert_close(model.uncertainty.log_variances.grad, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["verification", "expression"])
def test_a_single_task_trains_only_its_branch(task):
    model = model_with_weighting(task).train()
    output = model(torch.randn(4, 3, 80, 80), *BATCH)
    torch.testing.assert_close(output.loss, output[f"{task}_loss"])
    assert (output.embedding is None) == (task == "expression")
    assert (output.expression_logits is None) == (task == "verification")
    output.loss.backward()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    branch = {"verification", "identity_head"} if task == "verification" else {"expression", "expression_head"}
    assert trained == {"shared"} | branch
    both = model.eval()(torch.randn(1, 3, 80, 80))
    assert both.embedding is not None and both.expression_logits is not None


def test_losses_of_parts_of_a_batch_average_to_the_loss_of_the_batch(model):
    model.eval()
    faces = torch.randn(4, 3, 80, 80)
    people, expressions = torch.tensor([0, -100, -100, 3]), torch.tensor([1, 2, 3, -100])
    whole = model(faces, people, expressions)
    parts = [
        model(faces[rows], people[rows], expressions[rows], known_identities=1, known_expressions=1.5)
        for rows in ([0, 1], [2, 3])
    ]
    for name in ("softmax_loss", "triplet_loss", "expression_loss"):
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, whole[name])


@pytest.mark.parametrize("trunk", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_timm_backbone_replaces_the_shared_layers(trunk, tmp_path):
    size = 224 if trunk.startswith("swin") else 96
    config = FaceLiveNetConfig(image_size=size, num_identities=3, trunk=trunk)
    model = FaceLiveNetModel(config).train()
    faces = torch.randn(2, 3, size, size)
    output = model(faces, torch.tensor([0, 2]), torch.tensor([1, 2]))
    assert torch.isfinite(output.loss) and output.embedding.shape == (2, 1792)
    output.loss.backward()
    model.eval().save_pretrained(tmp_path)
    loaded = FaceLiveNetModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(faces).embedding, model(faces).embedding, rtol=0, atol=1e-6)


def test_an_unsuitable_trunk_is_refused():
    with pytest.raises(ValueError, match=r"no backbone 'resnet19'; similar are .*resnet18"):
        FaceLiveNetModel(FaceLiveNetConfig(trunk="resnet19"))
    with pytest.raises(ValueError, match="multiple of 32"):
        FaceLiveNetModel(FaceLiveNetConfig(trunk="resnet18", image_size=100))


def test_missing_labels_are_masked_per_sample(model):
    """Samples without a label do not change the loss of the other samples."""
    torch.manual_seed(7)
    model.eval()  # with running statistics of batch norm, samples do not influence each other
    faces = torch.randn(4, 3, 80, 80)
    everything = model(faces, torch.tensor([0, -100, 2, -100]), torch.tensor([-100, 1, -100, 4]))
    people = model(faces[[0, 2]], torch.tensor([0, 2]))
    expressions = model(faces[[1, 3]], expression_labels=torch.tensor([1, 4]))
    torch.testing.assert_close(everything.verification_loss, people.verification_loss)
    torch.testing.assert_close(everything.expression_loss, expressions.expression_loss)
    unlabelled = model(faces, torch.full((4,), -100), torch.full((4,), -100))
    assert unlabelled.loss.item() == 0
    unlabelled.loss.backward()


def test_identity_labels_without_identity_head_are_refused():
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=80))
    with pytest.raises(ValueError, match="num_identities"):
        model.eval()(torch.randn(1, 3, 80, 80), identity_labels=torch.tensor([0]))


# branch 2 as an image classifier of transformers


def test_the_classifier_has_the_expression_logits_of_the_whole_network(tmp_path):
    torch.manual_seed(8)
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=80, num_identities=2)).eval()
    model.save_pretrained(tmp_path)
    # loaded like the classifier, because the layout of weights in memory changes last digits
    model = FaceLiveNetModel.from_pretrained(tmp_path)
    classifier, report = FaceLiveNetForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    faces = torch.randn(2, 3, 80, 80)
    assert torch.equal(classifier(faces).logits, model(faces).expression_logits)
    assert parameters(classifier) == sum(map(parameters, (model.shared, model.expression, model.expression_head)))


def test_a_head_of_other_classes_starts_from_any_checkpoint(tmp_path):
    FaceLiveNetModel(FaceLiveNetConfig(image_size=80)).save_pretrained(tmp_path / "a")
    names = {"id2label": {0: "open", 1: "shut"}, "label2id": {"open": 0, "shut": 1}}
    for settings, labels in (({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")), (names, ("open", "shut"))):
        head = FaceLiveNetForImageClassification.from_pretrained(
            tmp_path / "a", ignore_mismatched_sizes=True, **settings
        )
        head.save_pretrained(tmp_path / "b")
        loaded = FaceLiveNetForImageClassification.from_pretrained(tmp_path / "b")
        assert loaded.config.expressions == labels and loaded.config.label2id[labels[1]] == 1
        assert not loaded.config.challenge_expressions
        assert loaded(torch.randn(2, 3, 80, 80)).logits.shape == (2, len(labels))
    kept = FaceLiveNetConfig.from_pretrained(tmp_path / "a", num_labels=7)
    assert kept.expressions == EXPRESSIONS and list(kept.challenge_expressions) == ["happy", "surprise"]


def test_the_classifiers_loss_is_the_mean_over_labelled_images():
    torch.manual_seed(9)
    classifier = FaceLiveNetForImageClassification(FaceLiveNetConfig(image_size=80)).eval()
    faces, labels = torch.randn(3, 3, 80, 80), torch.tensor([4, -100, 0])
    output = classifier(faces, labels=labels)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits[[0, 2]], labels[[0, 2]]))
    assert classifier(faces, labels=torch.full((3,), -100)).loss == 0


# the behaviour of other models of transformers


@pytest.mark.parametrize("change", [{"num_labels": 3}, {"id2label": {0: "calm", 1: "loud"}}])
def test_a_config_with_changed_labels_can_be_saved(tmp_path, change):
    FaceLiveNetModel(FaceLiveNetConfig(image_size=75)).save_pretrained(tmp_path)
    config = FaceLiveNetConfig.from_pretrained(tmp_path)
    for name, value in change.items():
        setattr(config, name, value)
    head = FaceLiveNetForImageClassification(config)
    head(torch.randn(2, 3, 75, 75), labels=torch.tensor([0, 1])).loss.backward()
    head.save_pretrained(tmp_path / "head")
    loaded = FaceLiveNetForImageClassification.from_pretrained(tmp_path / "head")
    assert loaded.config.num_labels == len(config.id2label) and list(loaded.config.challenge_expressions) == []


def test_challenge_expressions_remain_if_their_labels_move():
    config = FaceLiveNetConfig()
    config.id2label = {0: "happy", 1: "calm"}
    assert config.challenge_expressions == ["happy"]


def test_the_problem_type_chooses_the_loss():
    torch.manual_seed(0)
    faces, several = torch.randn(3, 3, 75, 75), torch.randint(0, 2, (3, 4)).float()
    labels = {"id2label": dict(enumerate("abcd")), "label2id": {name: index for index, name in enumerate("abcd")}}
    config = FaceLiveNetConfig(image_size=75, dropout=0, problem_type="multi_label_classification", **labels)
    output = FaceLiveNetForImageClassification(config)(faces, labels=several)
    expected = F.binary_cross_entropy_with_logits(output.logits, several)
    torch.testing.assert_close(output.loss, expected)
    regression = FaceLiveNetConfig(image_size=75, dropout=0, problem_type="regression", num_labels=1)
    output = FaceLiveNetForImageClassification(regression)(faces, labels=torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(output.loss, F.mse_loss(output.logits[:, 0], torch.tensor([0.5, 1.0, 2.0])))


@pytest.mark.parametrize("kind", [FaceLiveNetModel, FaceLiveNetForImageClassification])
def test_arguments_are_applied_or_refused(kind):
    model = kind(FaceLiveNetConfig(image_size=75)).eval()
    faces = torch.randn(1, 3, 75, 75)
    with torch.no_grad():
        found, expected = model(faces, return_dict=False), model(faces, output_hidden_states=False).to_tuple()
    assert type(found) is tuple and all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    for argument, message in (("lables", "unexpected argument 'lables'"), ("output_hidden_states", "only returns")):
        with pytest.raises(TypeError, match=message):
            model(faces, **{argument: True})


@pytest.mark.filterwarnings("ignore")
def test_a_model_can_be_traced_with_gradients():
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=75)).eval()
    faces = torch.randn(2, 3, 75, 75)
    traced = torch.jit.trace(model, faces, strict=False)
    torch.testing.assert_close(traced(faces)["embedding"], model(faces).embedding)


def test_a_training_step_can_be_compiled(monkeypatch):
    """The backend runs the graphs without code generation: code that fails in a graph fails here too."""
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=75, repeats=[0, 0, 0], num_identities=4, dropout=0)).train()
    before = model.identity_head.centers.clone()
    compiled = torch.compile(model, backend="aot_eager")
    output = compiled(torch.randn(4, 3, 75, 75), torch.arange(4), torch.arange(4))
    output.loss.backward()
    assert torch.isfinite(output.loss) and not torch.equal(model.identity_head.centers, before)
    assert model.shared.conv2d_1a.conv.weight.grad.abs().sum() > 0


def test_the_shipped_folder_loads_from_anywhere_as_remote_code(repository, tmp_path):
    """The code of README and of the first example works in a process that cannot import the repository."""
    script = f"""
import torch
from transformers import AutoModel, pipeline
folder = {str(repository / "pretrained")!r}
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert model(torch.randn(1, 3, 96, 96)).embedding.dtype == torch.float32
judge = pipeline("face-authentication", model=folder, trust_remote_code=True, device="cpu")
judge.save_pretrained("saved")
again = pipeline("face-authentication", model="saved", trust_remote_code=True, device="cpu")
face = torch.rand(96, 96, 3).numpy()
one, other = (every(face, face, "happy", detect=False) for every in (judge, again))
assert one["threshold"] == other["threshold"] is not None, (one, other)
assert one["reason"] == other["reason"] and abs(one["similarity"] - other["similarity"]) < 1e-5, (one, other)
print("the same")
"""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert result.stdout.endswith("the same\n"), result.stderr


# a teacher


@torch.no_grad()
def naive_teacher_loss(head, features, targets) -> tuple[float, float]:
    """Sums over vectors and over pairs, by loops."""
    embedding = features / features.norm(dim=1, keepdim=True)
    vectors = pairs = 0.0
    for row, target in enumerate(targets):
        if not target.isnan().any():
            vectors += float((head.projection(embedding[row]) - target).square().sum())
    for i in range(len(targets)):
        for j in range(len(targets)):
            if i != j:
                unknown = targets[i].isnan().any() or targets[j].isnan().any()
                wanted = 0.0 if unknown else 1 - float((targets[i] - targets[j]).square().sum()) / 2
                pairs += (float(embedding[i] @ embedding[j]) - wanted) ** 2
    return vectors, pairs


def test_the_losses_of_a_teacher_equal_naive_loops():
    torch.manual_seed(0)
    head = TeacherHead(FaceLiveNetConfig(teacher_size=16))
    features, targets = torch.randn(7, FEATURE_SIZE), torch.randn(7, 16) / 4
    targets[[2, 5]] = torch.nan  # without a vector of the teacher
    vectors, known, pairs, count = head(features, targets).tolist()
    expected = naive_teacher_loss(head, features, targets)
    assert (vectors, pairs) == (pytest.approx(expected[0], rel=1e-4), pytest.approx(expected[1], rel=1e-4))
    assert (known, count) == (5, 42)
    identity = TeacherHead(FaceLiveNetConfig(teacher_size=FEATURE_SIZE, teacher_loss="cosine"))
    with torch.no_grad():
        identity.projection.weight.copy_(torch.eye(FEATURE_SIZE))
        identity.projection.bias.zero_()
    assert identity(features[:2] * 3, features[:2])[0].item() == pytest.approx(0, abs=1e-5)
    with pytest.raises(StrictDataclassError, match="teacher_loss must be one of"):
        FaceLiveNetConfig(teacher_loss="l3")


def test_the_losses_of_a_teacher_are_added_to_l1_by_their_weights():
    settings = {"image_size": 75, "num_identities": 5, "weighting": "verification", "dropout": 0.0}
    settings |= {"teacher_size": 8, "identity_weight": 0.5, "teacher_weight": 2.0, "teacher_pairs_weight": 3.0}
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(**settings))
    faces, people, targets = torch.randn(4, 3, 75, 75), torch.tensor([0, 1, 4, -100]), torch.randn(4, 8)
    output = model(faces, people, teacher_targets=targets)
    of_identities = output.softmax_loss + model.config.triplet_weight * output.triplet_loss
    expected = 0.5 * of_identities + 2 * output.teacher_loss + 3 * output.teacher_pairs_loss
    torch.testing.assert_close(output.verification_loss, expected)
    output.loss.backward()
    assert model.teacher_head.projection.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="set teacher_size"):
        FaceLiveNetModel(FaceLiveNetConfig(image_size=75))(faces, teacher_targets=targets, expression_labels=people)
