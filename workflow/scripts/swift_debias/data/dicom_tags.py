"""Tags of DICOM files as columns, through pydicom, which is optional; no pixel is read."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from ..errors import UserError, nearest
from .listing import DICOM_SUFFIXES as SUFFIXES
from .values import is_nobody, plain

INSTALL = "pip install 'swift-debias[dicom]'"
# Tags that say who somebody is: they are no columns, and these are kept as a hash.
NAMES = ("PatientName", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers",
         "PatientMotherBirthName", "PatientBirthName", "ResponsiblePerson")  # fmt: skip
IDS = ("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID",
       "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")  # fmt: skip
READERS = 8  # files whose tags are read at a time


def is_installed() -> bool:
    """Whether pydicom is there."""
    return importlib.util.find_spec("pydicom") is not None


def refuse_uninstalled(paths: Iterable[str]) -> None:
    """Say so before images are decoded.

    Raises:
        UserError: there are DICOM files and no pydicom.
    """
    named = [path for path in paths if path.lower().endswith(SUFFIXES)]
    if named and not is_installed():
        raise UserError(f"{len(named):,} images are DICOM, such as {named[0]}: {INSTALL}")


def import_pydicom(name: str) -> ModuleType:
    """A module of pydicom, whose many warnings on odd files are not for every image's log."""
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    return importlib.import_module(name)


def refuse_tags(names: Sequence[str]) -> None:
    """Refuse what is no tag's keyword, or names a person.

    Raises:
        UserError: names the nearest keyword.
    """
    if not is_installed():
        raise UserError(f"dicom: needs pydicom: {INSTALL}")
    known = import_pydicom("pydicom.datadict")
    for name in names:
        if known.tag_for_keyword(name) is None:
            raise UserError(f"dicom: no tag {name!r}{nearest(name, known.keyword_dict)}")
        if name in NAMES:
            raise UserError(f"dicom: {name} says who somebody is; PatientID tells people apart")


def read_tags(paths: Sequence[Path], names: Sequence[str]) -> pd.DataFrame:
    """Tags of DICOM files as text, a row a file; null where a file has none, or is no DICOM.

    Args:
        paths: the files; their pixels are not read.
        names: keywords of tags, such as PatientSex.
    """
    refuse_tags(names)
    dcmread = import_pydicom("pydicom").dcmread

    def read(path: Path) -> tuple[str | None, ...]:
        try:
            header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(names))
        except Exception:  # whatever a damaged file provokes: the cache says what is wrong with it
            return (None,) * len(names)
        return tuple(_text(header.get(name)) for name in names)

    with ThreadPoolExecutor(READERS) as pool:
        rows = list(pool.map(read, paths))
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pd.DataFrame(
        {name: pd.Series(cells, dtype="str") for name, cells in zip(names, columns, strict=True)}
    )


def _text(value: Any) -> str | None:
    """A tag's value as a table would have it; several values with a backslash, as DICOM does."""
    if value is None:
        return None
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    text = "\\".join(map(str, value)) if several else str(value)
    return text or None


def without_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of tags with a hash where a tag says who somebody is; nobody's id is null.

    The same id has the same hash, so images of a patient stay together. It hides an id from who
    reads a result; who has a list of all ids can still compare.
    """
    hashed = {name: frame[name].map(_hidden, "ignore") for name in frame if name in IDS}
    return frame.assign(**hashed).astype("str")


def _hidden(value: str) -> str | None:
    """The hash of an id in its plain form; None where it says 'not known', or is everybody's."""
    if is_nobody(value):
        return None
    return hashlib.sha256(plain(value).encode()).hexdigest()[:16]
