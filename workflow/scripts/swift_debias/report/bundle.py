"""A run's results in one file to cite and to check: `swift-debias bundle` and `verify`.

The bundle is a zip file that describes itself as an RO-Crate 1.1, by the profile of Process Run
Crates 0.5: settings, commit of the code, versions of packages, digests of the data, and metrics,
intervals, tables, figures, verdict. Commit and versions are those that the run wrote down
(run/origin.py), not those of now. No pictures, no ids, no weights, no scores of images
(docs/sharing.md). Only files that the run's settings make are in it (handed_on.py): what an earlier
configuration left in the folder is named, and stays. The same results make the same bytes.

`verify` needs nothing but the bundle: every file is one that its settings make and has the digest
that the crate names, and every table is made again from the metrics beside it and must be the same,
in every format.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import mimetypes
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from ..config.coherence import TABLES
from ..errors import UserError
from ..files import MARK, atomic_path, read_json
from ..run import layout, origin
from ..run.unfinished import LeftOut
from . import handed_on, one_table, render

CRATE = "ro-crate-metadata.json"
PUBLISHED = "published_results.csv"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
CRATE_PROFILE = "https://w3id.org/ro/crate/1.1"
RUN_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
NEEDED = ("settings", "metrics", "report", "origin")
SEAL = re.compile(rf"<!-- {MARK}[0-9a-f]{{64}} -->\n\Z")  # what `files.write_text` ends a page with
SHOWN = 100  # characters of a line that differs: as many before and after the place, at most
FIRST_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # no time of this machine


class Bundled(NamedTuple):
    """Names of a bundle's files, and of the run's files that its settings do not make."""

    files: list[str]
    left_out: list[str]


def write(run: Path, out: Path, project: Path) -> Bundled:
    """Write the bundle of a finished run.

    Args:
        run: `results/<run>`.
        out: the zip file.
        project: folder of the code, for its `resources/`.

    Returns:
        The names in it, and what was left out.

    Raises:
        UserError: the run is not finished, its settings are not as a run writes them, `project` is
            not the project, or `out` cannot be written.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder: --out names the zip file")
    if not (project / "resources" / PUBLISHED).is_file():
        raise UserError(f"no resources/{PUBLISHED} here: type this in the folder of the project")
    for name in NEEDED:
        if not (run / layout.path(name)).is_file():
            raise UserError(f"{run} has no {layout.path(name)}: finish the run first")
    there = {
        path.relative_to(run).as_posix()
        for kind in handed_on.SHARED
        for path in run.glob(layout.path(kind, **dict.fromkeys(layout.key_names(kind), "*")))
        if not path.name.startswith(".")  # Snakemake's own
    }
    settings, made, shared = _of_settings(run, handed_on.left_out(run))
    files = {name: (run / name).read_bytes() for name in there & shared}
    files[PUBLISHED] = (project / "resources" / PUBLISHED).read_bytes()
    files[CRATE] = _json(_crate(run, settings, files))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name in sorted(files):
                info = zipfile.ZipInfo(name, FIRST_OF_ZIP)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(info, files[name])
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; name another --out") from error
    return Bundled(sorted(files), sorted(there - made))


def verify(bundle: Path) -> list[str]:
    """Check the digests of a bundle's files, and make its tables again.

    Returns:
        What was checked, in sentences.

    Raises:
        UserError: it is no bundle, or something differs; names each file and cell.
    """
    if bundle.is_dir():
        raise UserError(
            f"{bundle} is a folder: give the .zip file that `swift-debias bundle` wrote of a run"
        )
    if not bundle.exists():
        raise UserError(f"{bundle}: no such file; `swift-debias bundle` writes one of a run")
    with tempfile.TemporaryDirectory() as folder:
        # as a run's folder lies, so that paths have their keys
        home = Path(folder, "results", "run")
        home.mkdir(parents=True)
        described, versions = _unpacked(bundle, home)
        wrong = list(_other_bytes(home, described))
        tables = _tables(bundle, home)
        wrong += [said for name in tables for said in _other_table(name, home, versions)]
        _, _, shared = _of_settings(home, LeftOut(), bundle)
        wrong += [
            f"{name}: its settings.yaml makes no such file to be handed on"
            for name in sorted({*described} - shared - {PUBLISHED})
        ]
    if wrong:
        raise UserError(f"{bundle} is not what it says:\n" + "\n".join(f"  {w}" for w in wrong))
    return [
        f"{len(described)} files, all of the run's settings, have the SHA-256 that the crate names",
        f"{len(tables)} tables, made again from the metrics, have the same cells in every format",
    ]


def _of_settings(
    home: Path, without: LeftOut, named: Path | None = None
) -> tuple[dict[str, Any], set[str], set[str]]:
    """The settings, the files that they make, and those of them without images of patients.

    Args:
        home: the run, or a bundle that is unpacked.
        without: what failed.
        named: what a message names.

    Raises:
        UserError: they are not as a run writes them.
    """
    path = home / layout.path("settings")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        made = handed_on.made(settings, without)
        return settings, made, made - handed_on.pictured(settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        where = path if named is None else f"{named}: {path.name}"
        raise UserError(f"{where} is not as a run writes it ({why}): run again") from error


def _crate(run: Path, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """`ro-crate-metadata.json`."""
    recorded = read_json(run / layout.path("origin"))
    code, own, data = _code(recorded), _own_modules(recorded), _data(run, settings)
    packages = [
        {
            "@id": f"#{name}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
        for name, version in recorded["packages"].items()
    ]
    described = [
        {
            "@id": name,
            "@type": "File",
            "name": name,
            "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in sorted(files.items())
    ]
    parts = [{"@id": entry["@id"]} for entry in described]
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run {settings['run']!r}",
        "instrument": {"@id": code["@id"]},
        "object": [{"@id": entry["@id"]} for entry in data],
        "result": parts,
    }
    synthetic = settings.get("synthetic") is not None
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"SWiFT workflow, run {settings['run']!r}",
        "description": "Metrics, tables and figures of debiased medical-image classifiers"
        + (", from synthetic data." if synthetic else "."),
        "datePublished": code["dateModified"],
        "license": "Numbers and pictures of numbers; the terms of the data sets hold.",
        "conformsTo": {"@id": RUN_PROFILE},
        "hasPart": parts,
        "mentions": {"@id": action["@id"]},
    }
    profile = {"@id": RUN_PROFILE, "@type": "CreativeWork", "name": "Process Run Crate"}
    self = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": CRATE_PROFILE},
        "about": {"@id": "./"},
    }
    code["softwareRequirements"] = [{"@id": entry["@id"]} for entry in packages]
    if own:
        code["hasPart"] = [{"@id": entry["@id"]} for entry in own]
    graph = [self, root, profile, action, code, *own, *data, *packages, *described]
    return {"@context": CONTEXT, "@graph": graph}


def _code(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The code as the run wrote it down: version, commit, and what differs from it."""
    found, version = recorded["code"], recorded["version"]
    differ = origin.differing(found) if found["commit"] else [origin.NONE]
    differ += [f"own module {one['file']}: {one['commit']}" for one in recorded["modules"]]
    return {
        "@id": f"#swift-workflow-{found['commit'] or version}",
        "@type": ["SoftwareSourceCode", "SoftwareApplication"],
        "name": "SWiFT workflow",
        "softwareVersion": version,
        "identifier": found["commit"] or "no git checkout",
        "description": "; ".join(differ) or "as committed",
        "dateModified": found["date"] or "1980-01-01",
    }


def _own_modules(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The modules of the user's own that networks were made by; they stay where they are."""
    return [
        {
            "@id": f"#module-{quote(one['file'])}",
            "@type": "SoftwareSourceCode",
            "name": one["file"],
            "description": f"own module: {one['commit']}",
            "sha256": one["sha256"],
        }
        for one in recorded["modules"]
    ]


def _data(run: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data sets that were used; the digest is that of the manifest, which stays where it is."""
    found = []
    for name in handed_on.datasets(settings):
        manifest = run / layout.path("manifest", dataset=name)
        if manifest.is_file():
            digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
            adapter = settings["datasets"][name]["adapter"]
            text = f"adapter {adapter}; its manifest has the SHA-256 {digest}"
            found.append(
                {"@id": f"#data-{name}", "@type": "Dataset", "name": name, "description": text}
            )
    return found


def _unpacked(bundle: Path, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Unpack; file -> digest, and package -> version, as the crate names them."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            for name in archive.namelist():
                place = PurePosixPath(name)
                if place.is_absolute() or ".." in place.parts:
                    raise UserError(f"{bundle}: {name!r} would be written outside of it")
            archive.extractall(home)
        graph = json.loads((home / CRATE).read_text(encoding="utf-8"))["@graph"]
        digests = {e["@id"]: e["sha256"] for e in graph if e["@type"] == "File"}
        packages = [e for e in graph if e["@type"] == "SoftwareApplication"]
        return digests, {e["name"]: e["softwareVersion"] for e in packages}
    except UserError:
        raise
    except Exception as error:  # of zipfile and its unpackers, in many types
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{bundle} is no bundle of `swift-debias bundle`: {why}") from error


def _tables(bundle: Path, home: Path) -> list[str]:
    """The tables that follow from metrics: all of the settings', and all that lie there.

    Without those of every run, which rest on times and on ranks.
    """
    settings = home / layout.path("settings")
    try:
        entries = yaml.safe_load(settings.read_text(encoding="utf-8"))["experiments"].items()
        named = {name for name, entry in entries if entry["kind"] == "table"}
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"{bundle}: {settings.name} names no experiments: {type(error).__name__}"
        ) from error
    for name in named:
        if PurePosixPath(str(name)).name != name:
            raise UserError(f"{bundle}: {settings.name}: {name!r} is no name of a table")
    files = home.glob(layout.path("table", table="*", format="*"))
    there = {layout.keys("table", path)["table"] for path in files}
    return sorted(named | (there - set(TABLES)))


def _other_bytes(home: Path, described: Mapping[str, str]) -> Iterator[str]:
    there = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()} - {CRATE}
    yield from (f"{name}: it is not there" for name in sorted(set(described) - there))
    yield from (f"{name}: the crate does not name it" for name in sorted(there - set(described)))
    for name in sorted(there & set(described)):
        if hashlib.sha256((home / name).read_bytes()).hexdigest() != described[name]:
            yield f"{name}: its bytes are others than the crate says"


def _other_table(name: str, home: Path, versions: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table, in any format, that the metrics beside it do not make."""
    recipe = home / layout.path("table_recipe", table=name)
    if not recipe.is_file():
        yield f"{recipe.name}: it is not there, and without it {name} cannot be made again"
        return
    try:
        found = read_json(recipe)
        files = {kind: [home / path for path in paths] for kind, paths in found["files"].items()}
        texts = render.texts(one_table.made(name, found["params"], files, home / PUBLISHED))
    except (OSError, UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        yield f"{name}: cannot be made again: {why}"
        return
    for suffix, text in texts.items():
        table = home / layout.path("table", table=name, format=suffix)
        if not table.is_file():
            yield f"{table.name}: it is not there"
            continue
        before, made = SEAL.sub("", table.read_bytes().decode(errors="replace")), text
        if before != made and suffix == "html" and _other_great_tables(versions):
            before, made = _shown(before), _shown(made)  # its marks and styles may be others
        yield from _other_lines(table.name, before.splitlines(), made.splitlines())


def _other_great_tables(versions: Mapping[str, str]) -> bool:
    return versions.get("great-tables") != importlib.metadata.version("great-tables")


class _Shown(HTMLParser):
    """The text that a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = self.hidden or tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.hidden = self.hidden and tag != "style"

    def handle_data(self, data: str) -> None:
        if not self.hidden and data.strip():
            self.lines.append(" ".join(data.split()))


def _shown(page: str) -> str:
    parser = _Shown()
    parser.feed(page)
    return "\n".join(parser.lines)


def _other_lines(name: str, before: list[str], again: list[str]) -> Iterator[str]:
    if len(before) != len(again):
        yield f"{name}: {len(before)} lines, made again {len(again)}"
        return
    for number, (old, new) in enumerate(zip(before, again, strict=True), start=1):
        if old != new:
            same = next(i for i, (a, b) in enumerate(zip_longest(old, new)) if a != b)
            start = 0 if same < SHOWN else same - SHOWN // 2
            old, new = (text[start : start + 2 * SHOWN] for text in (old, new))
            yield f"{name}, line {number}: {old!r}, made again {new!r}"


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
