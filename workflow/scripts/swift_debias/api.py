"""The front door: debias a classifier of your own in ten lines, without the workflow.

    import swift_debias as sd

    images = sd.ImageSet.from_frame(df, image="path", label="label", attribute="sex",
                                    patient="patient_id", size=224, mean=MEAN, std=STD)
    external, test = images.split(0.6, seed=0)
    swift = sd.SWiFT(epochs=10, lr_extractor=1e-4, lr_head=1e-3).fit(model, external)
    print(sd.audit(swift.predict_proba(test), test))
    fair = swift.model_

Every file of `methods/` has a class here, made of its `CLASS` and `Settings`. They take the road of
the workflow's rule `debias` (`methods.base.debias`), and follow scikit-learn's conventions:
settings in the constructor, results in attributes that end in an underscore, cloneable.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from . import methods
from .config.base import Model, explain
from .config.schema import (
    Augmentation,
    Compute,
    Finetuning,
    Method,
    Optimizer,
    Pretraining,
)
from .data.image_set import ImageSet
from .data.items import as_array
from .data.values import canonical
from .errors import UserError, nearest, of_library, setting
from .evaluation import audit as _audit
from .evaluation.audit import Audit
from .methods._choice import Choice
from .methods._common import COMMON, SHARED
from .methods._external import balance_large
from .methods._groups import choose_groups
from .methods.base import Training, debias

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .data.normalization import Normalization
    from .evaluation.decision_rule import Rule
    from .learning.networks import Classifier
    from .learning.samples import Samples


FROZEN = "What it trains it trains even where the caller froze it (`requires_grad=False`)."
ROUNDED = 0.02  # by which two probabilities of two decimals each may miss 1
SOME = ("masks_", "importance_", "rule_")  # results that some methods have


class Debiaser:
    """What all methods' classes share. See a class's own documentation for its settings.

    A method trains what it is said to train, layers that the caller froze too; their flags
    (`requires_grad`) are in `model_` as they were.

    Attributes:
        model_: the debiased network: class and state-dict keys of the one given, in eval mode.
        history_: a row an epoch or step.
        cost_: seconds, peak memory, images drawn, weights changed.
        masks_: the method's masks by name of the weight or pruned layer, where it has them. The
            mask of a last layer with two outputs is that of their difference.
        importance_: what it measured: objective -> name of the weight -> tensor, where it reads
            importances.
        rule_: how it decides, where it is not by a threshold of the scores (decision_rule.py).
        group_names_: of the external set; the rule's groups are numbered as they are.
    """

    algorithm: ClassVar[str]
    Settings: ClassVar[type[Model]]

    model_: nn.Module
    history_: pd.DataFrame
    cost_: dict[str, Any]
    masks_: dict[str, torch.Tensor]
    importance_: dict[str, dict[str, torch.Tensor]]
    rule_: Rule
    group_names_: tuple[str, ...]

    def __init__(self, **settings: Any) -> None:
        defaults = {name: field.get_default() for name, field in self.Settings.model_fields.items()}
        self._settings = defaults | settings
        self._checked()

    def _checked(self) -> Model:
        """The settings, typed.

        Raises:
            UserError: an unknown setting (names the nearest), or a value that is not allowed.
        """
        try:
            return self.Settings.model_validate(self._settings)
        except ValidationError as error:
            raise UserError(f"{type(self).__name__}: {explain(error)}") from error

    def _own(self) -> Model:
        """The settings of the method's own file."""
        settings, model = self._checked(), methods.load(self.algorithm).Settings
        return model(**{name: getattr(settings, name) for name in model.model_fields})

    def refuse_foreign(self, classifier: Classifier) -> None:
        """Refuse, before anything is computed, what a user's own network cannot hold.

        Args:
            classifier: made of that network, which is no `Classifier` itself.

        Raises:
            UserError: says which setting its weights can hold.
        """
        foreign = getattr(methods.load(self.algorithm), "foreign", None)
        if foreign and (why := foreign(self._own(), classifier)):
            raise UserError(f"{type(self).__name__}: {why}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as they were given."""
        return dict(self._settings)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator, `check_is_fitted` for one."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags  # loaded: it is who asks

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags())

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are results."""
        return "model_" in self.__dict__

    def set_params(self, **settings: Any) -> Self:
        """Change settings; refused as a whole if one is not allowed."""
        before = self._settings
        self._settings = before | settings
        try:
            self._checked()
        except UserError:
            self._settings = before
            raise
        return self

    def __getattr__(self, name: str) -> Any:
        """Settings are attributes too; a result that is not there says why."""
        own = self.__dict__.get("_settings", {})
        if name in own:
            return own[name]
        if name in SOME and "model_" in self.__dict__:
            raise AttributeError(f"{type(self).__name__} with these settings has no {name}")
        if name in Debiaser.__annotations__:
            raise AttributeError(f"no {name} yet: call fit(model, external) first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting is set as by `set_params`."""
        if name in self.Settings.model_fields:
            self.set_params(**{name: value})
        else:
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        """The settings that differ from the defaults."""
        fields = self.Settings.model_fields
        changed = [f"{k}={v!r}" for k, v in self._settings.items() if v != fields[k].get_default()]
        return f"{type(self).__name__}({', '.join(changed)})"

    @of_library()
    def fit(self, model: nn.Module, external: ImageSet) -> Self:
        """Debias a copy of a classifier; the one given is not touched.

        Args:
            model: images -> logits, one or two an image, or one for each of the images' classes
                where they are more than two, made by a linear layer at its end.
            external: images that the classifier was not trained on, with label and group.

        Raises:
            UserError: the network or the images cannot be used; says what to do.
        """
        import torch

        from .learning import devices
        from .learning.samples import few
        from .learning.wrapped import Wrapped

        _refuse_other(f"{type(self).__name__}.fit", model, external)
        settings: Any = self._checked()
        own = self._own()
        training = _training(settings)
        device = _device(settings.device)
        set_seed = settings.seed if settings.external_seed is None else settings.external_seed
        external = external.subset(external.groups >= 0)
        balanced = _balanced(external, settings.min_cell, set_seed)
        if settings.transpose and external.shape[0] != external.shape[1]:
            raise UserError("images that are not square cannot be transposed: transpose=False")
        with devices.exact(device), torch.inference_mode(False), torch.enable_grad():
            samples = _samples(external, device)
            wrapped = Wrapped(model, few(samples), settings.head, len(external.classes))
            if wrapped.is_foreign:
                self.refuse_foreign(wrapped.classifier)
            outcome = debias(
                devices.place(wrapped.classifier, device, training.compute),
                samples,
                balanced,
                len(external.group_names),
                Method(
                    algorithm=self.algorithm,
                    external_fraction=settings.external_fraction,
                    **own.model_dump(),
                ),
                training,
                lambda: choice_of(
                    wrapped.classifier, samples, len(external.group_names), training.finetuning
                ),
                seed=settings.seed,
                set_seed=set_seed,
                patients=external.units,
                log=sys.stderr if settings.verbose else io.StringIO(),
                name=type(self).__name__,
            )
            self.model_ = wrapped.unwrap(outcome.classifier)
        self.history_ = pd.DataFrame(outcome.history)
        self.cost_ = outcome.cost
        self.group_names_ = external.group_names
        self._normalization, self._bits = external.normalization, external.bits
        for name in SOME:
            self.__dict__.pop(name, None)  # of an earlier fit
        if outcome.masks:
            self.masks_ = {wrapped.name(n): m.detach().cpu() for n, m in outcome.masks.items()}
        if outcome.importance:
            self.importance_ = {
                objective: {wrapped.name(n): v.detach().cpu() for n, v in values.items()}
                for objective, values in outcome.importance.items()
            }
        if outcome.rule is not None:
            self.rule_ = outcome.rule
        return self

    @of_library()
    def predict_proba(self, images: ImageSet) -> np.ndarray:
        """Probabilities of the classes by the debiased network, float64 (n, 2) or (n, C).

        Raises:
            UserError: the images are normalized or scaled otherwise than those of `fit`.
        """
        model = self.model_
        _refuse_other(f"{type(self).__name__}.predict_proba", model, images)
        fitted = self.__dict__.get("_normalization", images.normalization)
        if images.normalization != fitted:
            raise UserError(
                f"{type(self).__name__}: the images have {_normalized(images.normalization)}, and "
                f"those of fit {_normalized(fitted)}: make the set as that one was made"
            )
        bits = self.__dict__.get("_bits")
        if None not in (bits, images.bits) and bits != images.bits:
            raise UserError(
                f"{type(self).__name__}: 16-bit images are read as of {images.bits} bits, and "
                f"those of fit as of {bits}: make both sets with the same {setting('images.bits')}"
            )
        return _probabilities(model, images, self.device, known=True)

    @of_library()
    def predict(self, images: ImageSet) -> np.ndarray:
        """The more probable class of each image, int64 (n,); or what a method's rule decides.

        The rule looks at the name of the image's group, and at its place in its source where it has
        to draw. An image of a group that the external set did not have is decided at 0.5.

        Raises:
            UserError: the method has a rule, and the images' groups are of other names than its.
        """
        if "rule_" in self.__dict__:
            groups = _numbered_as(self.group_names_, images)
            scores = self.predict_proba(images)[:, 1]
            return self.rule_.decide(scores, groups, images.rows.tolist()).astype(np.int64)
        probabilities = self.predict_proba(images)
        if probabilities.shape[1] > 2:
            return probabilities.argmax(axis=1)
        return (probabilities[:, 1] >= 0.5).astype(np.int64)


@of_library()
def predict_proba(model: nn.Module, images: ImageSet, device: str = "auto") -> np.ndarray:
    """Probabilities of the classes by any classifier: (n, 2), or (n, C) of C > 2 outputs.

    Args:
        model: images -> logits, (n,), (n, 1) or (n, C).
        images: normalized as in its training.
        device: where to compute.

    Raises:
        UserError: the network or the images cannot be used, or a softmax made its outputs.
    """
    _refuse_other("predict_proba", model, images)
    return _probabilities(model, images, device)


def _probabilities(
    model: nn.Module, images: ImageSet, device: str, known: bool = False
) -> np.ndarray:
    """See `predict_proba`; `known`: the model is known to give logits."""
    import torch

    from .learning import devices, wrapped

    place = _device(device)
    home = next((p.device for p in model.parameters()), place)
    try:
        with devices.exact(place):
            logits = wrapped.logits(model.to(place), _samples(images, place), known=known)
    finally:
        model.to(home)
    logits = logits.double()
    if logits.dim() == 2:
        return logits.softmax(dim=1).cpu().numpy()
    return torch.stack([(-logits).sigmoid(), logits.sigmoid()], dim=1).cpu().numpy()


@of_library()
def audit(
    scores: np.ndarray,
    images: ImageSet,
    *,
    threshold: float = 0.5,
    decisions: np.ndarray | None = None,
    positive: Any = None,
) -> Audit:
    """Discrimination, fairness and calibration of scores, with 95 % intervals.

    Args:
        scores: (n, 2) as `predict_proba` gives them, or (n,), the probability of class 1. An audit
            is of two classes: of more, (n, C) with `positive`.
        images: their labels, groups and patients (intervals count patients, not images).
        threshold: a score at or above it, in the type of the scores, is a decision for class 1.
        decisions: (n,), 0 or 1, where a rule made them: `predict` of a method with a `rule_`. A
            network does not carry its rule, so that scores alone are decided at the threshold.
        positive: of images of more than two classes, the one that is audited against the rest. An
            image is decided for it where it is the most probable, as in the workflow.

    Returns:
        A row a metric: metric, value, low, high, n, reason; see `evaluation.audit`. Printed, it
        shows the main ones.

    Raises:
        UserError: of the scores, or a class that the images do not have.
    """
    if str(getattr(scores, "dtype", "")) == "torch.bfloat16":
        raise UserError(  # two decimals: a threshold cuts them elsewhere than is written
            "audit: scores of bfloat16 are too coarse; compute them of logits.float()"
        )
    _refuse_no_images("audit", images)
    scores = as_array(scores)
    if scores.shape not in ((len(images),), (len(images), 2), (len(images), len(images.classes))):
        raise UserError(
            f"audit: scores of {len(images)} images are ({len(images)}, 2), as predict_proba gives "
            f"them, or ({len(images)},), not {scores.shape}"
        )
    labels, place, several = images.labels, 1, len(images.classes) > 2
    if several:
        place = _class_of(positive, images)
        if scores.shape != (len(images), len(images.classes)) or threshold != 0.5:
            raise UserError(
                f"audit: of {len(images.classes)} classes the most probable is decided for, "
                "without a threshold, and the scores of all are needed, "
                f"({len(images)}, {len(images.classes)}), as predict_proba gives them"
            )
        labels = (labels == place).astype(np.int8)
    elif positive is not None:
        raise UserError("audit: positive= is of images of more than two classes; these have two")
    if scores.ndim == 2:
        _refuse_no_shares(_audit.numbers(scores))
    if several and decisions is None:
        decisions = scores.argmax(axis=1) == place
    return _audit.audit(
        labels,
        images.groups,
        scores[:, place] if scores.ndim == 2 else scores,
        images.group_names,
        images.units,
        threshold=threshold,
        decisions=decisions,
    )


def _class_of(positive: Any, images: ImageSet) -> int:
    """The place of a class among the images' own.

    Raises:
        UserError: none is named, or none is called so.
    """
    names = [str(name) for name in images.classes]
    if positive is None:
        raise UserError(
            f"audit: is of two classes, and the images have {len(names)}: name the one that is "
            f"audited against the rest, positive={names[-1]!r}"
        )
    if str(positive) not in names:
        raise UserError(f"audit: no class {positive!r}{nearest(str(positive), names)}")
    return names.index(str(positive))


def _refuse_other(who: str, model: object, images: object) -> None:
    """Refuse what is no network that can be used, and what is no set of images."""
    from .learning.wrapped import refuse_unusable

    try:
        refuse_unusable(model)
    except UserError as error:
        raise UserError(f"{who}: {error}") from error
    _refuse_no_images(who, images)


def _refuse_no_shares(scores: np.ndarray) -> None:
    """Refuse scores (n, C) that are no probabilities of the classes, which add up to 1."""
    sums = scores.sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= ROUNDED))
    if len(wrong):
        raise UserError(
            "audit: scores of several columns are the probabilities of the classes, which add up "
            f"to 1; those of image {wrong[0]} add up to {sums[wrong[0]]:g}: give predict_proba's, "
            "or of two classes the column of class 1 alone"
        )


def _refuse_no_images(who: str, images: object) -> None:
    """Refuse what is no set of images."""
    if not isinstance(images, ImageSet):
        raise UserError(
            f"{who}: the images must be an ImageSet, not a {type(images).__name__}: "
            "ImageSet.from_arrays or from_frame makes one"
        )


def _normalized(normalization: Normalization | None) -> str:
    """How pixels are normalized, in words."""
    if normalization is None:
        return "pixels as they are"
    return f"mean {list(normalization.mean)} and std {list(normalization.std)}"


def _numbered_as(names: tuple[str, ...], images: ImageSet) -> np.ndarray:
    """The images' groups by their place among `names`, int16 (n,); -1: not among them.

    Raises:
        UserError: none of their groups is.
    """

    def key(name: str) -> str | float:
        value = canonical(name)
        return name if value is None else value

    places = {key(name): place for place, name in enumerate(names)}
    found = [places.get(key(name), -1) for name in images.group_names]
    if max(found) < 0:
        raise UserError(
            f"predict: the images' groups {images.group_names} are none of those that the rule is "
            f"of, {names}; make the set with groups of these names"
        )
    return np.array([*found, -1], np.int16)[images.groups]  # a group of -1 is the last


def _training(settings: Any) -> Training:
    """The shared settings as the workflow's task has them."""
    import torch

    values: Mapping[str, Any] = settings.model_dump()

    def of(model: type[BaseModel]) -> dict[str, Any]:
        return {n: values[n] for m, names in SHARED if m is model for n in names}

    optimizer = Optimizer(name=settings.optimizer, lr=settings.lr_extractor, **of(Optimizer))
    return Training(
        Pretraining(epochs=settings.epochs, optimizer=optimizer, **of(Pretraining)),
        Finetuning(epochs_percent=100, **of(Finetuning)),
        Augmentation(**of(Augmentation)),
        Compute(threads=torch.get_num_threads(), **of(Compute)),
    )


def _device(name: str) -> torch.device:
    import torch

    from .learning.devices import choose

    return torch.device(choose(name))


def _samples(images: ImageSet, device: torch.device) -> Samples:
    """The images on a device; where that is the CPU, read from where they are."""
    from .learning.samples import make_samples

    return make_samples(
        images.source,
        images.rows,
        images.labels,
        images.groups,
        device,
        "off" if device.type == "cpu" else "auto",
        images.normalization,
        len(images.classes),
    )


def choice_of(
    classifier: Classifier, samples: Samples, groups: int, finetuning: Finetuning
) -> Choice:
    """The groups to compare, by one classifier's scores on its external set."""
    from .evaluation.one_vs_rest import score_columns
    from .learning.inference import predict
    from .learning.objectives import probabilities

    logits, columns = predict(classifier, samples), score_columns(samples.classes)
    scores = logits.double() if samples.classes == 2 else probabilities(logits)
    frame = pd.DataFrame(
        {
            "fold": 0,
            "label": samples.labels.cpu().numpy().astype(np.int64),
            "group": samples.attributes.cpu().numpy(),
            "patient": None,
        }
    )
    frame[columns] = scores.cpu().numpy().reshape(len(frame), -1)
    return choose_groups(frame, groups, finetuning, samples.classes)


def _balanced(external: ImageSet, min_cell: int, seed: int) -> np.ndarray:
    """The balanced part: the run's, or drawn as rule `make_external` draws it."""
    if external.balanced is not None:
        return external.balanced
    labels, groups = external.labels.astype(np.int64), external.groups.astype(np.int64)
    rng = np.random.default_rng(seed)
    names, classes = external.group_names, len(external.classes)
    return balance_large(labels, groups, len(names), min_cell, rng, names, classes)


def _described(name: str, field: FieldInfo) -> str:
    """A setting's line in a class's documentation."""
    text = " ".join((field.description or "").split())
    return f"        {name}: {text}{' ' if text else ''}Default: {field.get_default()!r}."


def _make_class(algorithm: str) -> type[Debiaser]:
    """The class of a method's file."""
    method = methods.load(algorithm)
    settings = create_model(f"{method.CLASS}Settings", __base__=(method.Settings, COMMON))
    # the shared settings first, those of the method's file last
    names = [*COMMON.model_fields, *method.Settings.model_fields]
    fields = {name: settings.model_fields[name] for name in names}
    title = (method.__doc__ or method.CLASS).strip().splitlines()[0]
    lines = "\n".join(_described(name, field) for name, field in fields.items())
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.get_default(),
            annotation=field.annotation,
        )
        for name, field in fields.items()
    ]
    return type(
        method.CLASS,
        (Debiaser,),
        {
            "__doc__": f"{title}\n\n    {FROZEN}\n\n    Args:\n{lines}\n",
            "__module__": __name__,
            "__signature__": inspect.Signature(parameters),
            "algorithm": algorithm,
            "Settings": settings,
        },
    )


CLASSES = {made.__name__: made for made in map(_make_class, methods.modules())}
globals().update(CLASSES)

__all__ = ["CLASSES", "Debiaser", "ImageSet", "audit", "predict_proba", *sorted(CLASSES)]
