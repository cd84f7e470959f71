"""Run methods on a few panels of the benchmark and rank them: `swift-debias compare my_method.py`.

The panels are those of one experiment of config/benchmark.yaml; the first one whose methods are
the Baseline alone is the oracle. Every method with settings gets the same number of trials, chosen
by the same rule (`methods/_selection.py`), as in the workflow. What is finished is kept, by a hash
of the code and settings that it depends on, so a comparison that was stopped goes on, and the next
method costs only its own part.

Rows of what compare adds itself are called `oracle` and `floor`; no method may be.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .. import methods
from ..config import plan, strict_yaml
from ..config.load import load
from ..config.schema import Method, Settings
from ..data import own_external
from ..data.adapters import options_models
from ..data.labelled import KEYS
from ..errors import UserError
from ..evaluation import metrics as scoring
from ..evaluation import plausibility
from ..evaluation.cells import Block
from ..evaluation.decision_rule import image_names
from ..evaluation.ranks import Ranking
from ..evaluation.setup_intervals import setup_intervals
from ..evaluation.words import title as word
from ..files import read_json, read_parquet, write_json, write_parquet
from ..methods import _trials
from ..methods._choice import Choice
from ..methods._groups import choose_groups
from ..methods.base import Outcome, Training, debias
from ..report.in_words import rank_sentence
from ..report.rank_table import rankings
from ..run.code_id import code_id, file_id, local_folders, own_module_id
from ..seeds import debias_seed, external_seed
from .cases import Case, baseline, case_of, samples

if TYPE_CHECKING:
    from ..learning.networks import Classifier

SCRIPTS = Path(__file__).resolve().parents[2]
ORACLE, FLOOR = "oracle", "floor"  # rows beside those of the methods
PANEL = ["task", "backbone", "attribute"]
SCORED = ("eodds", "auc")


class Compared(NamedTuple):
    """What a comparison found.

    entries: task, backbone, attribute, method (and 'oracle', 'floor'), eodds, auc, their marks
    (what not to take at its word, as in other tables), floor (the method's own: what chance
    alone would show; of the row 'floor' the largest), below_floor, seconds. ranks: metric -> the
    methods' ranks over the panels.
    """

    entries: pd.DataFrame
    ranks: Mapping[str, Ranking]


def read_settings(path: Path) -> Settings:
    """The benchmark's settings.

    Raises:
        UserError: the file is not there, or is not valid.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; run it in the folder of the project")
    return load(
        strict_yaml.read(path),
        Path(),
        algorithms=methods.settings_models(),
        adapters=options_models(),
    )


def compare(
    settings: Settings, experiment: str, outside: str | None, out: Path, say: Callable[[str], None]
) -> Compared:
    """Run an experiment's methods, and one of another file, on its panels.

    Args:
        settings: of the benchmark.
        experiment: a table of it.
        outside: a method that `methods._outside` knows; None: those of the experiment alone.
        out: folder for what is finished.
        say: told what is being done.

    Raises:
        UserError: a method is called like a row of another, or a panel is named twice.
    """
    _refuse_names(settings, experiment, outside)
    blocks = [Block(**panel) for panel in plan.blocks(settings, settings.experiments[experiment])]
    variants = dict(settings.methods)
    if outside is not None:
        variants[outside] = _outside_variant(settings, outside)
        if all(map(_is_oracle, blocks)):
            raise UserError(
                f"experiment {experiment}: no panel has a method beside baseline, with which "
                f"{outside} could be compared: name some under methods"
            )
        blocks = [
            block if _is_oracle(block) else block._replace(methods=[*block.methods, outside])
            for block in blocks
        ]
    frames, spent = [], []
    for block in blocks:
        own = _panel(block)
        case = case_of(settings, block.task, block.attribute)
        bench = _Bench(settings, variants, case, block.backbone, out, say)
        # the outside method first: what is wrong in it is told before hours of the others
        in_turn = sorted(block.methods, key=lambda name: name != outside)
        made = {method: bench.predictions(method) for method in in_turn}
        for method in block.methods:
            predictions, seconds = made[method]
            frames.append(predictions.assign(**own, method=method))
            spent.append({**own, "method": method, "seconds": seconds})
    return _judged(settings, blocks, pd.concat(frames), pd.DataFrame(spent))


def _refuse_names(settings: Settings, experiment: str, outside: str | None) -> None:
    """Rows and files are known by their names: no two things may have one.

    Raises:
        UserError: names the file or the key.
    """
    view = settings.experiments[experiment]
    if outside is not None:
        taken = {name.casefold() for name in (ORACLE, FLOOR, *settings.methods)}
        if outside.casefold() in taken:
            what = "a method of the configuration" if outside in settings.methods else "a row"
            raise UserError(
                f"{methods.OUTSIDE[outside].__file__}: {outside!r} is {what} that compare shows "
                "beside yours; give the file another name"
            )
    for block in plan.blocks(settings, view):
        for name in (name for name in block["methods"] if name in (ORACLE, FLOOR)):
            raise UserError(f"methods.{name}: compare has a row {name!r} itself; call it otherwise")
    panels = [(panel.task, panel.backbone, panel.attribute) for panel in view.panels]
    for panel in panels:
        if panels.count(panel) > 1:
            raise UserError(
                f"experiments.{experiment}.panels: {', '.join(panel)} is named twice; compare "
                "wants each once"
            )


def _panel(block: Block) -> dict[str, str]:
    """What tells a block from every other one."""
    return {"task": block.task, "backbone": block.backbone, "attribute": block.attribute}


def _outside_variant(settings: Settings, name: str) -> Method:
    """The variant of an outside method: its defaults and its grid."""
    from ..methods._outside import grid

    trials = settings.selection.trials or 1
    return Method(algorithm=name, title=f"{name} (yours)", search=grid(name, trials))


def _is_oracle(block: Block) -> bool:
    return list(block.methods) == ["baseline"]


class _Bench:
    """All methods on one case; what is finished is read from the folder."""

    def __init__(
        self,
        settings: Settings,
        variants: Mapping[str, Method],
        case: Case,
        backbone: str,
        out: Path,
        say: Callable[[str], None],
    ) -> None:
        from ..learning import devices

        self.settings, self.variants, self.case, self.backbone = settings, variants, case, backbone
        self.out, self.say = out / case.task, say
        self.device = devices.prepare_device(settings.compute)
        self.training = Training.of(
            settings.tasks[case.task].model_dump(
                include={"pretraining", "finetuning", "augmentation"}
            ),
            settings.compute,
        )
        self.models: dict[int, Classifier] = {}
        self.chosen: Choice | None = None

    def key(self, *parts: Any, algorithm: str | None = None) -> str:
        """A hash of what a result depends on: the code, the settings of its kind, and the parts.

        What rules `train_baseline`, `search`, `debias` and `predict` have among their params, and
        the names that seeds are made of.
        """
        from ..learning import architectures

        modules = (
            () if algorithm in (None, *methods.OUTSIDE) else (f"swift_debias.methods.{algorithm}",)
        )
        network = self.settings.backbones[self.backbone]
        library, _ = architectures.library_of(network.architecture)
        own = methods.OUTSIDE.get(algorithm or "")
        outside = None
        if own is not None:
            outside = file_id(Path(str(own.__file__)), SCRIPTS, own.__name__, *local_folders())
        text = json.dumps(
            [
                code_id(SCRIPTS, "swift_debias/compare/run.py", *modules),
                outside,
                self.settings.model_dump(
                    mode="json",
                    include={"seed", "folds", "repeats", "synthetic", "selection"},
                ),
                self.settings.tasks[self.case.task].model_dump(mode="json"),
                network.model_dump(mode="json"),
                own_module_id(network.architecture) if library == "own" else "",
                self.settings.compute.arithmetic(),
                self.device.type,
                [importlib.metadata.version(name) for name in ("torch", "torchvision")],
                [self.case.task, self.backbone, self.case.attribute],
                parts,
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def model(self, fold: int) -> Classifier:
        """A copy of a fold's Baseline."""
        import copy

        if fold not in self.models:
            path = self.out / f"baseline{fold}.{self.key('baseline', fold)}.safetensors"
            if not path.is_file():
                self.say(f"{self.case.task}: training the Baseline of fold {fold}")
            self.models[fold] = baseline(
                self.settings, self.case, self.backbone, fold, self.device, path
            )
        return copy.deepcopy(self.models[fold])

    def external(self, rows: pd.DataFrame) -> Any:
        """Samples of rows of the external set."""
        return samples(self.settings, self.case.task, self.case.images, rows, self.device)

    def choice(self) -> Choice:
        """Which group is unprivileged, by all folds' Baselines (rule `choose_groups`)."""
        from ..learning.inference import predict

        if self.chosen is None:
            frames = []
            for fold, rows in enumerate(self.case.external):
                scores = predict(self.model(fold), self.external(rows)).double().cpu().numpy()
                frames.append(
                    pd.DataFrame(
                        {
                            "fold": fold,
                            "label": rows["label"].astype(int),
                            "group": rows["attribute"].astype(int),
                            "score": scores,
                            "patient": rows["image_id"],
                        }
                    )
                )
            finetuning = self.training.finetuning
            self.chosen = choose_groups(pd.concat(frames, ignore_index=True), 2, finetuning)
        return self.chosen

    def found(self, owner: str) -> dict[str, Any]:
        """What the search of a variant found, as rule `search` does it."""
        variant, case, settings = self.variants[owner], self.case, self.settings
        key = self.key("search", variant.model_dump(mode="json"), algorithm=variant.algorithm)
        path = self.out / f"{owner}.search.{key}.json"
        if path.is_file():
            return read_json(path)
        self.say(f"{case.task}: {owner}: searching its settings")

        def open_fold(fold: int) -> _trials.Fold:
            fitted = case.external[fold]
            rows = pd.concat([fitted, own_external.held_out(case.external, fold)])
            return _trials.Fold(
                self.model(fold),
                self.external(rows),
                rows["image_id"].to_numpy(object),
                debias_seed(settings.seed, case.task, self.backbone, case.attribute, fold),
                external_seed(settings.seed, case.task, case.attribute, fold),
                np.arange(len(rows)) >= len(fitted),
            )

        folds = range(settings.selection.on_folds or settings.folds)
        result = _trials.search(
            [lambda fold=fold: open_fold(fold) for fold in folds],  # type: ignore[misc]
            variant,
            self.choice(),
            self.training,
            settings.selection,
            self.out / f"{owner}.trials",
            key,
            io.StringIO(),
        )
        write_json(path, result)
        return result

    def predictions(self, method: str) -> tuple[pd.DataFrame, float]:
        """Scores of the test set by all models of a method, and the seconds that they took."""
        variant = self.variants[method]
        owner, searched = methods.searched(self.variants, method)
        grid = None if owner is None else self.variants[owner].model_dump(mode="json")
        parts = ("predictions", variant.model_dump(mode="json"), grid)
        key = self.key(*parts, algorithm=variant.algorithm)
        path = self.out / f"{method}.{key}.parquet"
        if path.is_file():
            frame = read_parquet(path)
            return frame.drop(columns="seconds"), float(frame["seconds"].iloc[0])
        started = time.process_time()
        if owner is not None:
            chosen = self.found(owner)["chosen"]
            variant = methods.with_settings(variant, {name: chosen[name] for name in searched})
        self.say(f"{self.case.task}: {method}")
        repeats = range(plan.repeats(self.settings, variant))
        frames = [
            self._scored(self._debiased(variant, fold, repeat)).assign(fold=fold, repeat=repeat)
            for fold in range(self.settings.folds)
            for repeat in repeats
        ]
        found, seconds = pd.concat(frames, ignore_index=True), time.process_time() - started
        write_parquet(found.assign(seconds=seconds), path)
        return found, seconds

    def _debiased(self, variant: Method, fold: int, repeat: int) -> Outcome:
        """A fold's Baseline, debiased as rule `debias` does it."""
        case, seed = self.case, self.settings.seed
        rows = case.external[fold]
        return debias(
            self.model(fold),
            self.external(rows),
            rows["balanced"].to_numpy(),
            2,
            variant,
            self.training,
            self.choice,
            seed=debias_seed(seed, case.task, self.backbone, case.attribute, fold, repeat),
            set_seed=external_seed(seed, case.task, case.attribute, fold),
            log=io.StringIO(),
            name=f"{variant.algorithm} {case.task} fold {fold}",
        )

    def _scored(self, debiased: Outcome) -> pd.DataFrame:
        """A model's scores of the test set, and the decisions of its rule if it has one."""
        from ..learning.inference import predict
        from ..learning.objectives import probabilities

        tests = self.case.tests
        rows = tests.assign(row=np.arange(len(tests)), attribute=tests["group"])
        of_test = samples(self.settings, self.case.task, self.case.test_images, rows, self.device)
        logits = predict(debiased.classifier, of_test)
        scores = probabilities(logits).cpu().numpy()
        found = tests[[*KEYS, "patient_id", "label", "group"]].assign(score=scores)
        if debiased.rule is not None:
            names = image_names(found["dataset"], found["image_id"])
            found["decision"] = debiased.rule.decide(scores, found["group"].to_numpy(), names)
        return found


def _judged(
    settings: Settings, blocks: Sequence[Block], predictions: pd.DataFrame, spent: pd.DataFrame
) -> Compared:
    """Metrics, noise floors and ranks of all cases."""
    tidy, widths, repeats = [], [], []
    for block in blocks:
        own = _panel(block)
        part = predictions[_is_of(predictions, block)]
        for _, of in part.groupby(["method", "fold"]):
            scored = [scoring.score(one, 2) for _, one in of.groupby("repeat")]
            model = {key: of[key].iloc[0] for key in ("method", "fold")}
            tidy.append(scoring.mean_of_repeats(scored).assign(**own, **model))
            repeats += [one.assign(**own, **model) for one in scored]
        names = ["method", "fold", "repeat", *KEYS, "patient_id", "label", "group", "score"]
        names += ["decision"] if "decision" in part else []
        widths.append(setup_intervals(part[names], 2, settings.seed).assign(**own))
    found, intervals = pd.concat(tidy), pd.concat(widths)
    groups = {block.attribute: settings.attributes[block.attribute].group_names for block in blocks}
    min_group = {b.task: settings.tasks[b.task].finetuning.min_group for b in blocks}
    marks = plausibility.judge(found, groups, min_group, "baseline", intervals, pd.concat(repeats))
    ranked = [block for block in blocks if not _is_oracle(block)]
    ranks = rankings(ranked, found, marks)
    return Compared(_entries(blocks, found, intervals, spent, plausibility.marks(marks)), ranks)


def _entries(
    blocks: Sequence[Block],
    found: pd.DataFrame,
    intervals: pd.DataFrame,
    spent: pd.DataFrame,
    marks: plausibility.Marks,
) -> pd.DataFrame:
    """A row a panel and method; the oracle of its network and the largest floor in every panel."""
    keys = [*PANEL, "method"]
    values = found[found["metric"].isin(SCORED)]
    means = values.pivot_table("value", keys, "metric", aggfunc="mean").reset_index()
    gaps = intervals[intervals["metric"] == "eodds"]
    # over the test sets of a panel
    noise = gaps.groupby(keys).agg(floor=("floor_95", "max"), below_floor=("below_floor", "all"))
    rows = means.merge(noise.reset_index(), on=keys).merge(spent, on=keys)
    datasets = {tuple(_panel(block).values()): block.datasets for block in blocks}
    for metric in SCORED:
        rows[f"{metric}_marks"] = [
            "; ".join(
                dict.fromkeys(
                    check.mark
                    for dataset in datasets[(*panel,)]
                    for check in marks.about((*panel, method, dataset, metric))
                )
            )
            for *panel, method in rows[keys].itertuples(index=False, name=None)
        ]
    oracles = {block.backbone: block for block in reversed(blocks) if _is_oracle(block)}
    frames = []
    for block in (block for block in blocks if not _is_oracle(block)):
        own = _panel(block)
        mine = rows[_is_of(rows, block)]
        frames.append(mine)
        if block.backbone in oracles:
            best = rows[_is_of(rows, oracles[block.backbone])]
            frames.append(best.assign(**own, method=ORACLE, seconds=np.nan))
        floor = float(mine["floor"].max())
        noise_row = {**own, "method": FLOOR, "eodds": floor, "floor": floor, "below_floor": False}
        frames.append(pd.DataFrame([noise_row | {f"{metric}_marks": "" for metric in SCORED}]))
    return pd.concat(frames, ignore_index=True)


def _is_of(rows: pd.DataFrame, block: Block) -> pd.Series:
    return (rows[PANEL] == pd.Series(_panel(block))).all(axis=1)


def table(compared: Compared, titles: Mapping[str, str]) -> pd.DataFrame:
    """For readers: a row a method, the best mean rank by EOdds first; oracle and floor last.

    Columns: method, mean ranks by EOdds and AUC, EOdds and AUC of each panel, seconds of processor
    time. A star marks a gap that is inside the method's own noise, ^ and letters what is not ranked
    (`legend`).
    """
    entries = compared.entries
    by_eodds, by_auc = (compared.ranks[name].means for name in SCORED)
    named = {ORACLE: "Oracle", FLOOR: "Largest floor", **titles}
    panels = entries[PANEL].drop_duplicates()
    several = [name for name in PANEL[1:] if len(panels[name].unique()) > 1]
    rows = []
    for method in [*map(str, by_eodds.index), ORACLE, FLOOR]:
        own = entries[entries["method"] == method]
        row = {"method": named.get(method, method)}
        for name, ranks in (("EOdds", by_eodds), ("AUC", by_auc)):
            row[f"rank {name}"] = f"{ranks[method]:.2f}" if method in ranks else ""
        for entry in own.to_dict("records"):
            panel = " ".join(entry[name] for name in ("task", *several))
            star = "*" if entry["below_floor"] else " "
            row[f"{panel} EOdds"] = f"{entry['eodds']:.3f}{star}{_letters(entry['eodds_marks'])}"
            auc = f"{entry['auc']:.3f}{_letters(entry['auc_marks'])}"
            row[f"{panel} AUC"] = "" if np.isnan(entry["auc"]) else auc
        timed = own["seconds"].notna().any()
        row["seconds"] = f"{own['seconds'].sum():.0f}" if timed else ""
        if len(own):
            rows.append(row)
    return pd.DataFrame(rows).fillna("")


def _unranked(marks: str) -> list[plausibility.Check]:
    """The checks of an entry of `marks` with which a number shares the last places."""
    checks = [plausibility.CHECKS[mark] for mark in marks.split("; ") if mark]
    return [check for check in checks if not check.ranked]


def _letters(marks: str) -> str:
    letters = ",".join(check.letter for check in _unranked(marks))
    return f"^{letters}" if letters else ""


def legend(compared: Compared) -> list[str]:
    """What the letters of a table mean: a line each; none where all is ranked."""
    entries = [text for metric in SCORED for text in compared.entries[f"{metric}_marks"]]
    found = {check.letter: check for text in entries for check in _unranked(text)}
    return [f"^{letter}: {found[letter].meaning} (ranked last)" for letter in sorted(found)]


def sentences(compared: Compared, outside: str, titles: Mapping[str, str]) -> list[str]:
    """The rank of the outside method, and what the ranks can tell apart."""
    lines = []
    for name in ("eodds", "auc"):
        found = compared.ranks[name]
        if outside in found.means:
            place = 1 + int((found.means < found.means[outside] - 1e-9).sum())
            alike = ", ".join(titles.get(other, other) for other in found.alike(outside)) or "none"
            lines.append(
                f"{titles[outside]}: place {place} of {len(found.means)} by {word(name)}, mean "
                f"rank {found.means[outside]:.2f}; not told apart from {alike}."
            )
        lines.append(rank_sentence(found, titles))
    return lines
