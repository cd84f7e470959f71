"""A conda channel of tiny packages: those of resources/conda_forge.csv, nothing else.

Names and versions are what conda-forge is known to have, whatever envs/*.yaml ask for. A package
holds links to the modules that pip installed (newer than its version says) and to those of its
dependencies that are not on the list; the others are packages of their own. So an environment made
of them has a real Python that sees what it asked for, with all dependencies, and nothing else; each
of its Python processes writes down which modules came from elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LIST = Path(__file__).resolve().parents[2] / "resources" / "conda_forge.csv"
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
CHANNEL = "conda-forge"
STANDIN = Path(__file__).resolve().parent / "conda" / "bin"  # to be put on PATH
USES = "uses.jsonl"  # in an environment: a line for each of its Python processes

RECORDER = f"""
import atexit, json, os, sys

def write():
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    foreign = [f for f in files if "site-packages" in f and not f.startswith(sys.prefix)]
    with open(os.path.join(sys.prefix, {USES!r}), "a") as uses:
        uses.write(json.dumps(dict(script=os.path.basename(sys.argv[0]), foreign=foreign)) + "\\n")

atexit.register(write)
"""


class Package(NamedTuple):
    """A package of conda-forge, with its names on PyPI and in Python; they are empty where none."""

    name: str
    pypi: str
    module: str
    least: str
    date: str
    seen: str


def listed() -> dict[str, Package]:
    """The packages that conda-forge is known to have, by name."""
    with LIST.open(newline="") as rows:
        return {row["name"]: Package(**row) for row in csv.DictReader(rows)}


def make_channel(root: Path) -> str:
    """Write a channel with all packages of the list; returns its alias, a URL."""
    packages = listed()
    add_package(root, "python", packages.pop("python").least, [], python_files())
    conda = {package.pypi: package.name for package in packages.values() if package.pypi}
    for name, package in packages.items():
        inside, needs, todo = {}, set(), [package.pypi or name]
        while todo:
            found = distribution(todo.pop())
            inside[found.name] = link_modules(root, found)
            required = requirements(found)
            needs |= {conda[other] for other in required if other in conda}
            todo += [other for other in required if other not in conda and other not in inside]
        paths = "\n".join(inside.values())
        add_package(root, name, package.least, sorted(needs), {f"{SITE}/{name}.pth": paths})
    return index(root)


def make_wheel(folder: Path, name: str) -> None:
    """Write the wheel of a package that pip installed: for a `pip:` section, without a network."""
    found = distribution(name)
    folder.mkdir(parents=True, exist_ok=True)
    [tag, *_] = re.findall("^Tag: (.+)$", found.read_text("WHEEL") or "", flags=re.M)
    with ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
        for file in found.files or []:
            if not {"..", "__pycache__"} & set(file.parts):
                wheel.write(str(found.locate_file(file)), str(file))


def index(root: Path) -> str:
    """Index the channel, as after adding a package; returns the channel's alias."""
    subprocess.run([sys.executable, str(STANDIN / "conda"), "index", root / CHANNEL], check=True)
    return root.as_uri()


def requirements(found: Distribution) -> list[str]:
    """PyPI names of what a package needs here; an optional or uninstalled one is left out."""
    names = set()
    for text in found.requires or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            name = canonicalize_name(needed.name)
            try:
                distribution(name)
            except PackageNotFoundError:  # a CUDA library beside a CPU build
                continue
            names.add(name)
    return sorted(names)


def link_modules(root: Path, found: Distribution) -> str:
    """A folder with links to a distribution's modules; returns its path."""
    folder = root / "modules" / canonicalize_name(found.name)
    if folder.exists():  # several packages need it
        return str(folder)
    folder.mkdir(parents=True)
    for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        (folder / top).symlink_to(Path(found.locate_file(top)))  # type: ignore[arg-type]
    return str(folder)


def python_files() -> dict[str, str]:
    """The real interpreter, made to look into its own environment only."""
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    return {
        "bin/python": f"-> {base}",
        "pyvenv.cfg": f"home = {base.parent}\ninclude-system-site-packages = false\n",
        f"{SITE}/record_uses.py": RECORDER,
        f"{SITE}/record_uses.pth": "import record_uses",
    }


def add_package(
    root: Path, name: str, version: str, depends: list[str], files: dict[str, str]
) -> None:
    """Write one package; a file's text may be a link: "-> target"."""
    record = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": depends,
        "subdir": "noarch",
        "noarch": "generic",
        "timestamp": 0,
    }
    entries = []
    for path, text in files.items():
        link = text.startswith("-> ")
        body = text.encode()
        entry = {"_path": path, "path_type": "softlink" if link else "hardlink"}
        if not link:
            entry |= {
                "sha256": hashlib.sha256(body).hexdigest(),
                "size_in_bytes": len(body),
            }
        entries.append(entry)
    texts = files | {
        "info/index.json": json.dumps(record),
        "info/paths.json": json.dumps({"paths": entries, "paths_version": 1}),
        "info/files": "\n".join(files) + "\n",
    }
    folder = root / CHANNEL / "noarch"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{name}-{version}-0.tar.bz2", "w:bz2") as archive:
        for path, text in texts.items():
            member = tarfile.TarInfo(path)
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text[3:]
                archive.addfile(member)
            else:
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
