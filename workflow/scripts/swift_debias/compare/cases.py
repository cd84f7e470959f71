"""What a panel of the benchmark needs, in memory: images, folds, external sets and Baselines.

The steps are the workflow's, by the same functions and seeds; what it does with files is left out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..config.schema import Finetuning, Settings, Synthetic
from ..data import own_external
from ..data.folds import make_folds
from ..data.image_set import HeldImages
from ..data.labelled import KEYS
from ..data.normalization import Normalization
from ..data.synthetic import kinds
from ..errors import UserError
from ..methods._external import make_external
from ..seeds import derive_seed, external_seed

if TYPE_CHECKING:
    import torch

    from ..learning.networks import Classifier
    from ..learning.samples import Samples


class Case(NamedTuple):
    """One task with its images.

    cohort: a row an image of the pool and the external set: image_id, dataset, label, group,
        external, trains (bool), fold. images: theirs, in the order of its rows. tests: likewise,
        of the test sets. external: of each fold what debiasing works on, as `make_external` gives
        it, with `row`, the image's place.
    """

    task: str
    attribute: str
    cohort: pd.DataFrame
    images: HeldImages
    tests: pd.DataFrame
    test_images: HeldImages
    external: Sequence[pd.DataFrame]


def case_of(settings: Settings, task: str, attribute: str) -> Case:
    """Draw a task's images and cut them into folds.

    Raises:
        UserError: its data sets are not drawn, or the attribute is not what they are drawn with.
    """
    of = settings.tasks[task]
    cohort, images = _drawn(settings, of.pool)
    tests, test_images = _drawn(settings, of.tests[attribute])
    if (settings.synthetic or Synthetic()).size != of.images.size:
        raise UserError(f"tasks.{task}.images.size must be synthetic.size: nothing is resized here")
    names = settings.attributes[attribute].group_names
    if names != kinds.GROUPS:
        raise UserError(f"attribute {attribute!r} has the groups {names}, not {kinds.GROUPS}")
    marked = own_external.mark(cohort, of.external).frame
    strata = marked[["group", own_external.EXTERNAL]]
    marked["fold"] = make_folds(marked, strata, settings.folds, settings.seed)["fold"].to_numpy()
    external = [
        make_external(
            marked,
            marked["group"].to_numpy(),
            fold,
            len(names),
            of.finetuning.min_cell,
            np.random.default_rng(external_seed(settings.seed, task, attribute, fold)),
            names,
        ).frame
        for fold in range(settings.folds)
    ]
    place = pd.Series(np.arange(len(marked)), index=pd.MultiIndex.from_frame(marked[KEYS]))
    external = [
        frame.assign(row=place[pd.MultiIndex.from_frame(frame[KEYS])].to_numpy())
        for frame in external
    ]
    return Case(task, attribute, marked, images, tests, test_images, external)


def _drawn(settings: Settings, datasets: Sequence[str]) -> tuple[pd.DataFrame, HeldImages]:
    """Rows (image_id, dataset, patient_id, cluster, label, group) and pictures of data sets."""
    drawn = settings.synthetic or Synthetic()
    frames, pixels = [], []
    for name in datasets:
        if name not in drawn.populations:
            raise UserError(f"synthetic.populations: data set {name!r} is not drawn")
        of = drawn.populations[name]
        who = kinds.people(of, drawn, settings.seed)
        pixels.append(np.stack(kinds.pictures(who, of, drawn, settings.seed)))
        ids = [kinds.name_of(of, number) for number in who.index]
        frame = pd.DataFrame({"image_id": ids, "dataset": name, "patient_id": ids, "cluster": ids})
        frames.append(frame.assign(**{key: who[key].to_numpy() for key in ("label", "group")}))
    return pd.concat(frames, ignore_index=True), HeldImages(np.concatenate(pixels))


def samples(
    settings: Settings, task: str, images: HeldImages, rows: pd.DataFrame, device: torch.device
) -> Samples:
    """Samples of rows: label, attribute, and `row`, the image's place."""
    from ..learning.samples import make_samples

    of = settings.tasks[task].images
    return make_samples(
        images,
        rows["row"].to_numpy(),
        rows["label"].to_numpy(),
        rows["attribute"].to_numpy(),
        device,
        settings.compute.resident,
        Normalization.of(of.mean, of.std),
    )


def baseline(
    settings: Settings, case: Case, backbone: str, fold: int, device: torch.device, path: Path
) -> Classifier:
    """The Baseline of a fold: read from `path`, or trained as rule `train_baseline` does and kept.

    `path` must be of this case, fold and code alone.
    """
    from ..learning import devices, loop, networks
    from ..learning.context import Context

    network = settings.backbones[backbone]
    if path.is_file():
        return devices.place(networks.load(path, network), device, settings.compute)
    task = settings.tasks[case.task]
    seed = derive_seed(settings.seed, "baseline", case.task, backbone, fold)
    pool = case.cohort.assign(row=np.arange(len(case.cohort)), attribute=-1)
    held_out = pool["fold"] == fold
    classifier = devices.place(networks.build(network, seed), device, settings.compute)
    context = Context(
        seed=seed,
        epochs=task.pretraining.epochs,
        batch_size=task.pretraining.batch_size,
        optimizer=task.pretraining.optimizer,
        finetuning=Finetuning(),
        augmentation=task.augmentation,
        compute=settings.compute,
        log=io.StringIO(),
        name=f"{case.task} {backbone} fold {fold}",
    )

    def chosen(rows: Any) -> Samples:
        return samples(settings, case.task, case.images, pool[rows], device)

    train, validation = chosen(~held_out & pool["trains"]), chosen(held_out & pool["trains"])
    loop.pretrain(classifier, train, validation, task.pretraining, context)
    path.parent.mkdir(parents=True, exist_ok=True)
    networks.save(classifier, path)
    return classifier
