"""A classifier of one's own with three outputs, through the front door and as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import swift_debias as sd
from swift_debias.errors import UserError
from swift_debias.evaluation import one_vs_rest
from swift_debias.learning import last_layer, names, networks, wrapped

CLASSES = ("nevus", "mel", "bcc")


def images(n: int = 72, seed: int = 0) -> sd.ImageSet:
    rng = np.random.default_rng(seed)
    labels, groups = np.arange(n) % 3, np.arange(n) // 3 % 2
    pixels = rng.integers(0, 120, (n, 12, 12, 3))
    pixels[..., 0] += 60 * (labels == 1)[:, None, None]
    pixels[..., 1] += 60 * groups[:, None, None]
    words = np.array(CLASSES)[labels]
    return sd.ImageSet.from_arrays(pixels.astype(np.uint8), words, groups, classes=CLASSES)


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, outputs),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("name", ["SWiFT", "LLFT", "FairPrune"])
def test_a_network_of_one_s_own_with_three_outputs(name: str) -> None:
    given, model = images(), network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    options = {"steps": 5} if name == "LLFT" else {}
    method = getattr(sd, name)(min_cell=3, **({} if options else {"epochs": 1}), **options)
    made = method.fit(model, given).model_
    assert type(made) is nn.Sequential and made[5].weight.shape == (3, 6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert any(not torch.equal(value, before[key]) for key, value in made.state_dict().items())
    found = method.predict_proba(given)
    pixels = given.source.gather(given.rows).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(v).reshape(3, 1, 1) for v in given.normalization)
    with torch.no_grad():
        z = made(torch.from_numpy((pixels - mean) / std).float())
    np.testing.assert_allclose(found, z.double().softmax(1).numpy(), atol=1e-5)
    assert (method.predict(given) == z.argmax(1).numpy()).all()


@pytest.mark.parametrize("positive", CLASSES)
def test_an_audit_of_one_class_against_the_rest_is_of_the_workflows_metrics(positive: str) -> None:
    """As rule evaluate's: the labels, the probabilities and the argmax of that class alone."""
    given, place = images(), CLASSES.index(positive)
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.ones(3), len(given))
    scores = (scores + np.eye(3)[given.labels] * rng.random((len(given), 1))) / 2
    scores /= scores.sum(axis=1, keepdims=True)
    found = sd.audit(scores, given, positive=positive).set_index("metric")["value"]
    two = sd.ImageSet.from_arrays(
        np.zeros((len(given), 8, 8, 3), np.uint8), (given.labels == place).astype(int), given.groups
    )
    alone = {"decisions": scores.argmax(1) == place}
    expected = sd.audit(scores[:, place], two, **alone).set_index("metric")["value"]
    assert found.equals(expected)
    table = pd.DataFrame(scores, columns=[f"score_{c}" for c in range(3)])
    table = table.assign(dataset="own", label=given.labels, group=given.groups)
    theirs = one_vs_rest.score(table, 2, CLASSES).set_index("metric")["value"]
    for metric in ("auc", "tpr", "fpr", "eodds", "spd"):
        assert found[metric] == pytest.approx(theirs[f"{metric}@{positive}"])


def test_an_audit_of_one_class_needs_all_scores_and_a_class_that_there_is() -> None:
    given, scores = images(), np.full((72, 3), 1 / 3)
    for wrong, options, said in (
        (scores, {"positive": "mal"}, "no class 'mal'; did you mean 'mel'"),
        (scores, {}, "name the one that is audited against the rest, positive='bcc'"),
        (scores[:, 0], {"positive": "mel"}, "the scores of all are needed"),
        (scores[:, :2], {"positive": "mel"}, "the scores of all are needed"),
        (scores, {"positive": "mel", "threshold": 0.4}, "without a threshold"),
    ):
        with pytest.raises(UserError, match=said):
            sd.audit(wrong, given, **options)
    two = sd.ImageSet.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1], [0, 0, 1, 1])
    with pytest.raises(UserError, match="more than two classes; these have two"):
        sd.audit(np.full((4, 2), 0.5), two, positive="1")


@pytest.mark.parametrize("name", ["all", "one picked"])
def test_a_network_of_several_findings_is_told_how_one_is_debiased(name: str) -> None:
    class Picked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(14)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.net(pixels)[:, 3:4]

    two = sd.ImageSet.from_arrays(
        np.random.default_rng(0).integers(0, 255, (40, 12, 12, 3)).astype(np.uint8),
        np.arange(40) % 2, np.arange(40) // 2 % 2,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"multi-label network .* the row of one finding alone"):
        sd.SWiFT().fit(network(14) if name == "all" else Picked(), two)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    given = images()
    assert "nevus 12, mel 12, bcc 12" in repr(given)
    with pytest.raises(UserError, match="has 4 outputs; it needs one for each of 3 classes"):
        sd.SWiFT().fit(network(4), given)
    with pytest.raises(UserError, match="audit: is of two classes, and the images have 3"):
        sd.audit(np.full((72, 3), 1 / 3), given)
    with pytest.raises(UserError, match="24 labels are none of the classes nevus, mel, cyst"):
        sd.ImageSet.from_arrays(
            np.zeros((72, 8, 8, 3), np.uint8),
            np.array(CLASSES)[np.arange(72) % 3],
            np.arange(72) % 2,
            classes=("nevus", "mel", "cyst"),
        )


def test_three_outputs_are_not_folded() -> None:
    """Wrapped and unwrapped, untrained, a network keeps every bit."""
    model = network()
    probe = torch.randn(2, 3, 12, 12)
    inside = wrapped.Wrapped(model, probe, classes=3)
    assert inside.classifier.classes == 3
    torch.testing.assert_close(inside.classifier(probe), model(probe))
    back = inside.unwrap(inside.classifier)
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in model.state_dict().items())
    rows = torch.randn(3, 6)
    assert torch.equal(names.one_logit(rows), rows)
    assert torch.equal(last_layer.unfolded_rows(rows, rows + 1), rows + 1)


def test_a_saved_classifier_knows_its_classes(tmp_path: Path) -> None:
    from swift_debias.config.schema import Backbone

    backbone = Backbone(architecture="small_resnet", options={"width": 8})
    made, path = networks.build(backbone, 0, 3).eval(), tmp_path / "model.safetensors"
    networks.save(made, path)
    loaded = networks.load(path, backbone)
    assert loaded.classes == 3 and torch.equal(loaded.head.linear.weight, made.head.linear.weight)
    assert networks.load(path, backbone, own=True, classes=3).classes == 3
    for classes in (2, 7):
        with pytest.raises(UserError, match=f"its head has 3 outputs, .* {classes} classes"):
            networks.load(path, backbone, own=True, classes=classes)
    own = {k.removeprefix("extractor."): v for k, v in made.state_dict().items()}
    own = {k.replace("head.1", "fc"): v for k, v in own.items()}
    from swift_debias.learning import tensor_files

    tensor_files.write(tmp_path / "own.safetensors", own)
    theirs = networks.load(tmp_path / "own.safetensors", backbone, own=True, classes=3)
    assert torch.equal(theirs.head.linear.weight, made.head.linear.weight)
    with pytest.raises(UserError, match="has 3 outputs, but the task has 7 classes"):
        networks.load(tmp_path / "own.safetensors", backbone, own=True, classes=7)
