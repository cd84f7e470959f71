"""DICOM: films that pydicom writes, against the standard's formulas, and the files it ships."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.data.test_spreadsheets import notes, plain, read

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("openjpeg")
pytest.importorskip("libjpeg")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from swift_debias.config.schema import Images  # noqa: E402
from swift_debias.data import dicom, dicom_tags  # noqa: E402
from swift_debias.data.cache_building import build_cache  # noqa: E402
from swift_debias.data.decode import Decoded, UnreadableError, decode  # noqa: E402
from swift_debias.errors import UserError  # noqa: E402

SIDE = 64
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def film(levels: np.ndarray, bits: int = 12, **tags: Any) -> Dataset:
    """A grey X-ray of these levels; None as a tag's value takes it out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.Rows, made.Columns = levels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * levels.dtype.itemsize
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation = int(levels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = levels.tobytes()
    return made


def saved(made: Dataset) -> bytes:
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def decoded(made: Dataset | bytes, of_all: int | None = None, **options: Any) -> Decoded:
    data = made if isinstance(made, bytes) else saved(made)
    settings = {"size": SIDE, "channels": 1, "mean": (0.5,), "std": (0.5,), **options}
    return decode(data, Images(**settings), of_all)


def shades(made: Dataset | bytes, **options: Any) -> np.ndarray:
    return decoded(made, **options).pixels[..., 0]


def ramp(low: int, high: int, kind: str = "<u2") -> np.ndarray:
    return np.linspace(low, high, SIDE * SIDE).astype(kind).reshape(SIDE, SIDE)


# --- grey levels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_stored_bits_and_inverted_films(bits: int, kind: str) -> None:
    levels = ramp(0, 2**bits - 1, "<u2" if bits > 8 else "u1")
    expected = np.rint(levels / (2**bits - 1) * 255)
    if kind == "MONOCHROME1":
        expected = 255 - expected
    found = decoded(film(levels, bits, PhotometricInterpretation=kind))
    np.testing.assert_array_equal(found.pixels[..., 0], expected)
    assert found.bits == (bits if bits > 8 else None)
    assert (found.width, found.height) == (SIDE, SIDE)


def test_signed_levels() -> None:
    levels = ramp(-1024, 1023, "<i2")
    found = decoded(film(levels, 16, RescaleSlope=2, RescaleIntercept=-5))
    np.testing.assert_array_equal(found.pixels[..., 0], np.rint((levels + 1024.0) / 2047 * 255))
    assert found.bits == 11


def window(value: float, center: float, width: float, function: str) -> float:
    """PS3.3 C.11.2.1, with an output from 0 to 1."""
    if function == "LINEAR":
        if value <= center - 0.5 - (width - 1) / 2:
            return 0.0
        if value > center - 0.5 + (width - 1) / 2:
            return 1.0
        return (value - (center - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        return min(1.0, max(0.0, (value - center) / width + 0.5))
    return 1 / (1 + math.exp(-4 * (value - center) / width))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2.5, -1000), (-1, 4095)])
def test_rescaling_and_window(function: str, slope: float, intercept: float) -> None:
    levels = ramp(0, 4095)
    made = film(
        levels,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=[1500, 40],
        WindowWidth=[900, 400],
        VOILUTFunction=function,
    )
    values = levels.astype(float) * slope + intercept
    expected = [[round(255 * window(v, 1500, 900, function)) for v in row] for row in values]
    np.testing.assert_allclose(shades(made), expected, atol=1)
    assert decoded(made).bits is None  # the file says what is white


@pytest.mark.parametrize(
    "empty",
    [
        ["WindowCenter", "WindowWidth"],
        ["WindowWidth"],
        ["RescaleSlope"],
        ["RescaleIntercept"],
        ["RescaleSlope", "RescaleIntercept", "VOILUTFunction"],
        ["VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue"],
    ],
)
def test_a_tag_without_a_value_is_as_if_absent(empty: list[str]) -> None:
    """As anonymizers leave them."""
    tags = {"RescaleSlope": 2, "RescaleIntercept": 5, "WindowCenter": 1500, "WindowWidth": 900}
    given = {name: value for name, value in tags.items() if name not in empty}
    made = film(ramp(0, 4095), **given)
    expected = decoded(made)
    for name in empty:
        setattr(made, name, [] if name.endswith("Sequence") else None)
        assert made[name].is_empty
    np.testing.assert_array_equal(decoded(made).pixels, expected.pixels)
    assert decoded(made).bits == expected.bits


@pytest.mark.parametrize(("slope", "intercept"), [(2, None), (None, 5)])
def test_half_a_rescaling_has_a_neutral_other_half(
    slope: int | None, intercept: int | None
) -> None:
    levels = ramp(0, 4095)
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    made = film(levels, **{name: value for name, value in tags.items() if value is not None})
    np.testing.assert_array_equal(shades(made), np.rint(levels / 4095 * 255))


@pytest.mark.parametrize(
    ("padding", "tags"),
    [
        (65535, {"PixelPaddingValue": 65535}),
        (60000, {"PixelPaddingValue": 59999, "PixelPaddingRangeLimit": 65535}),
    ],
)
@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_says_nothing_of_a_films_levels(
    padding: int, tags: dict[str, int], kind: str
) -> None:
    """A film of 12 bits in a bright frame: scaled as without the frame, which is clipped."""
    levels = ramp(0, 4095)
    framed = levels.copy()
    framed[:5] = padding
    tags = {**tags, "PhotometricInterpretation": kind}
    found = decoded(film(framed, 16, **tags))
    expected = np.rint(levels / 4095 * 255)
    expected[:5] = 255
    np.testing.assert_array_equal(
        found.pixels[..., 0], 255 - expected if kind == "MONOCHROME1" else expected
    )
    assert found.bits == 12
    everywhere = film(np.full_like(levels, padding), 16, **tags)
    assert len(np.unique(shades(everywhere))) == 1


def test_a_voi_table_goes_before_the_window() -> None:
    table = np.sqrt(np.arange(4096) / 4095)
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 10]
    item.LUTData = np.rint(table * 1023).astype("<u2").tobytes()
    levels = ramp(0, 4095)
    made = film(levels, VOILUTSequence=[item], WindowCenter=10, WindowWidth=10)
    np.testing.assert_allclose(shades(made), 255 * table[levels], atol=0.75)


def test_declared_bits_and_those_of_the_data_set() -> None:
    levels = ramp(0, 1023)
    expected = np.rint(levels / 4095 * 255)
    np.testing.assert_array_equal(shades(film(levels, 16), bits=12), expected)
    of_all = decoded(film(levels, 16), of_all=12)
    np.testing.assert_array_equal(of_all.pixels[..., 0], expected)
    assert of_all.bits == 10
    with pytest.raises(UnreadableError, match=r"more than 9 bits \(images\.bits\)"):
        shades(film(levels, 16), bits=9)


def test_films_of_a_data_set_are_scaled_alike(tmp_path: Path) -> None:
    """Levels up to 1,000 beside levels up to 4,000: 12 bits for both."""
    for name, high in (("a", 1000), ("b", 4000)):
        (tmp_path / f"{name}.dcm").write_bytes(saved(film(ramp(0, high), 16)))
    frame = pd.DataFrame({"image_id": ["a", "b"], "path": ["a.dcm", "b.dcm"]})
    out = tmp_path / "x.npy", tmp_path / "x.parquet"
    index = build_cache(frame, tmp_path, *out, Images(size=SIDE, channels=1, mean=(0,), std=(1,)))
    assert index["bits"].tolist() == [10, 12]
    pixels = np.load(out[0])
    assert [int(one.max()) for one in pixels] == [round(h / 4095 * 255) for h in (1000, 4000)]


# --- how pixels are stored ------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, "deflated"])
def test_compressed_films_are_the_same(syntax: str) -> None:
    levels = ramp(0, 4095)
    made = film(levels)
    if syntax == "deflated":
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    else:
        made.compress(syntax)
    np.testing.assert_array_equal(shades(made), shades(film(levels)))


def test_files_without_a_preamble() -> None:
    made = film(ramp(0, 4095))
    plain_film = shades(made)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    stream = io.BytesIO()
    made.save_as(stream, implicit_vr=True, little_endian=True, enforce_file_format=True)
    without = stream.getvalue()[132:]
    np.testing.assert_array_equal(shades(without), plain_film)


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
     "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm"],
)  # fmt: skip
def test_the_samples_in_all_forms_are_one_picture(name: str) -> None:
    first, other = (Path(get_testdata_file(n, download=False)) for n in ("MR_small.dcm", name))
    found = [shades(path.read_bytes()) for path in (first, other)]
    np.testing.assert_array_equal(*found)
    assert found[0].std() > 20


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("SC_rgb_rle", 0),
        ("SC_rgb_jpeg_dcmtk", 12),
        ("SC_ybr_full_422_uncompressed", 12),
    ],
)
def test_colours(name: str, tolerance: int) -> None:
    """A test card of pure colours in bands, whatever it is stored as."""
    data = (SAMPLES / f"{name}.dcm").read_bytes()
    card = decode(data, Images(size=100)).pixels.astype(int)
    rows = [5, 15, 25, 65, 95]
    colours = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (0, 0, 0), (255, 255, 255)]
    expected = {5: colours[0], 15: colours[1], 25: colours[2], 65: colours[3], 95: colours[4]}
    for row in rows:
        assert np.abs(card[row, 50] - expected[row]).max() <= max(tolerance, 2), row


def test_palette() -> None:
    data = (SAMPLES / "examples_palette.dcm").read_bytes()
    found = decode(data, Images(size=350)).pixels
    header = pydicom.dcmread(io.BytesIO(data))
    tables = [
        np.frombuffer(getattr(header, f"{c}PaletteColorLookupTableData"), "<u2") >> 8
        for c in ("Red", "Green", "Blue")
    ]
    middle = header.pixel_array[:, 225:575]
    np.testing.assert_array_equal(found, np.stack([t[middle] for t in tables], axis=-1))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SC_rgb_rle_2frame.dcm", "2 frames in one DICOM file"),
        ("examples_ybr_color.dcm", "30 frames in one DICOM file"),
        ("rtdose_1frame.dcm", "32 bits a pixel"),
        ("SC_rgb_rle_16bit.dcm", r"colours \(RGB\) of 16 bits"),
        ("rtplan.dcm", r"without a picture \(no Rows\)"),
        ("test-SR.dcm", "without a picture"),
        ("MR_truncated.dcm", "bytes of pixel data is less than expected"),
    ],
)
def test_what_is_refused_and_why(name: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        shades((SAMPLES / name).read_bytes())


def test_a_huge_header_is_refused_before_pixels_are_read() -> None:
    made = film(ramp(0, 4095))
    made.Rows = made.Columns = 60000
    with pytest.raises(UnreadableError, match="60000 x 60000 pixels, more than"):
        shades(made)


def test_no_sample_file_ends_in_another_error() -> None:
    """Each of the files in pydicom's wheel is read or refused in a line."""
    read_ones = 0
    for path in sorted(SAMPLES.glob("*.dcm")):
        try:
            read_ones += decoded(path.read_bytes(), size=8).pixels.shape == (8, 8, 1)
        except UnreadableError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
    assert read_ones >= 40


# --- tags -----------------------------------------------------------------------------------------


def people() -> list[dict[str, Any]]:
    """Files of four patients: the last two were made anonymous."""
    return [
        {"PatientID": "H7001", "PatientSex": "F", "PatientAge": "058Y", "ViewPosition": "PA",
         "Manufacturer": "Siemens", "AccessionNumber": "A1", "BodyPartExamined": "CHEST"},
        {"PatientID": "H7001", "PatientSex": "F", "PatientAge": "059Y", "ViewPosition": "AP",
         "Manufacturer": "GE", "AccessionNumber": "A2", "BodyPartExamined": "CHEST"},
        {"PatientID": "H7002", "PatientSex": "M", "PatientAge": "011M", "ViewPosition": "PA",
         "Manufacturer": "", "AccessionNumber": "A3", "BodyPartExamined": "CHEST"},
        {"PatientID": "ANONYMOUS", "PatientSex": "O", "ViewPosition": "LL", "PatientAge": "",
         "Manufacturer": "GE", "AccessionNumber": "A4", "BodyPartExamined": "CHEST"},
        {"PatientID": "ANONYMOUS", "PatientSex": "M", "ViewPosition": "PA", "PatientAge": "040Y",
         "Manufacturer": "GE", "AccessionNumber": "A5", "BodyPartExamined": "CHEST"},
    ]  # fmt: skip


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A folder of films, sick and healthy, with the labels in a second table."""
    root = tmp_path / "hospital"
    for number, tags in enumerate(people()):
        folder = root / "films" / ("sick" if number % 2 else "healthy")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.dcm").write_bytes(saved(film(ramp(0, 4095), **tags)))
    report = {"accession": [f"A{n}" for n in range(1, 6)], "finding": ["PTX", "none"] * 2 + ["PTX"]}
    pd.DataFrame(report).to_csv(root / "report.csv", index=False)
    names = {"file": [f"{n}.dcm" for n in range(5)], "finding": report["finding"]}
    pd.DataFrame(names).to_csv(root / "files.csv", index=False)
    return root


TAGS = ["PatientID", "PatientSex", "PatientAge", "ViewPosition", "Manufacturer", "AccessionNumber"]
COLUMNS = {
    "sex": {"column": "PatientSex"},
    "age": {"column": "PatientAge"},
    "maker": {"column": "Manufacturer"},
}


@pytest.mark.key("table.dicom", "table.deidentify")
@pytest.mark.parametrize("hide", [True, False])
def test_a_folder_of_dicom_files_is_a_data_set(hospital: Path, hide: bool) -> None:
    """Labels from the folder's name, everything else from tags."""
    result = read(
        hospital,
        image_folder="films",
        dicom=TAGS,
        patient="PatientID",
        label={"column": "folder", "positive": ["sick"], "negative": ["healthy"]},
        attributes=COLUMNS,
        only={"ViewPosition": ["PA", "AP"]},
        deidentify=hide,
    )
    frame = result.frame.set_index("image_id").sort_index(key=lambda ids: ids.str[-5:])
    tags = [one for one in people() if one["ViewPosition"] != "LL"]
    assert plain(frame["label"]) == [0, 1, 0, 0]
    assert plain(frame["sex"]) == [{"F": "female", "M": "male"}[one["PatientSex"]] for one in tags]
    assert plain(frame["age"]) == [58.0, 59.0, 11 / 12, 40.0]
    assert plain(frame["maker"]) == [one["Manufacturer"] or None for one in tags]
    who = plain(frame["patient_id"])
    assert (who[0] == who[1]) and who[0] != who[2]
    assert (who[:3] == ["H7001", "H7001", "H7002"]) == (not hide)
    assert who[3] is None  # nobody's id binds no images together
    assert ("H7001" in str(result.log)) is False


NO_IDS = ("UNKNOWN", "NA", "none", "n/a", " Anonymized ", "0000")
"""What stands in the place of an id; the last is one."""


@pytest.mark.parametrize("table", [None, "t.csv"])
def test_words_for_not_known_are_no_patient(tmp_path: Path, table: str | None) -> None:
    root = tmp_path / "films"
    root.mkdir()
    for number, who in enumerate(NO_IDS):
        for copy in range(2):
            (root / f"{number}{copy}.dcm").write_bytes(saved(film(ramp(0, 255), PatientID=who)))
    files = sorted(path.name for path in root.iterdir())
    pd.DataFrame({"f": files, "y": [0, 1] * len(NO_IDS)}).to_csv(root / "t.csv", index=False)
    join = {"joins": [{"table": "t.csv", "by": "file", "to": "f"}]}
    result = read(
        root,
        dicom=["PatientID"],
        patient="PatientID",
        label={"column": "y", "positive": [1], "negative": [0]},
        **({"table": table, "path": "f"} if table else join),
    )
    who = result.frame.set_index("path")["patient_id"]
    assert who.index[who.notna()].tolist() == ["50.dcm", "51.dcm"]
    assert who["50.dcm"] == who["51.dcm"]


def test_labels_of_another_table_are_joined_by_a_tag(hospital: Path) -> None:
    result = read(
        hospital,
        dicom=TAGS,
        joins=[{"table": "report.csv", "by": "AccessionNumber", "to": "accession"}],
        image_id="AccessionNumber",
        patient="PatientID",
        label={"column": "finding", "positive": ["PTX"], "negative": ["none"]},
        attributes=COLUMNS,
    )  # "none" is a value here, since the label names it
    assert sorted(plain(result.frame["label"])) == [0, 0, 1, 1, 1]
    assert not result.frame["image_id"].str.match(r"A\d").any()
    assert result.frame["image_id"].is_unique
    assert "no row in report.csv of this AccessionNumber" not in notes(result)


def test_tags_beside_a_table(hospital: Path) -> None:
    options: dict[str, Any] = {
        "table": "files.csv",
        "path": "file",
        "lookup": "name",
        "label": {"column": "finding", "positive": ["PTX"], "negative": ["none"]},
        "attributes": COLUMNS,
        "patient": "PatientID",
    }
    frame = read(hospital, **options, dicom=TAGS).frame
    assert plain(frame["age"]) == [58.0, 59.0, 11 / 12, None, 40.0]
    assert plain(frame["maker"]) == ["Siemens", "GE", None, "GE", "GE"]
    assert frame["patient_id"].nunique() == 2
    table = pd.read_csv(hospital / "files.csv").assign(PatientSex="F")
    table.to_csv(hospital / "files.csv", index=False)
    with pytest.raises(UserError, match=r"files\.csv has a column 'PatientSex' too"):
        read(hospital, **options, dicom=TAGS)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["PatientSexx"], r"no tag 'PatientSexx'; did you mean 'PatientSex'"),
        (["PatientName"], "says who somebody is"),
    ],
)
def test_tags_that_are_none_or_name_somebody(hospital: Path, tags: list[str], message: str) -> None:
    label = {"column": "folder", "positive": ["sick"], "negative": ["healthy"]}
    with pytest.raises(UserError, match=message):
        read(hospital, dicom=tags, label=label)


def test_without_pydicom_it_is_said_before_images_are_decoded(
    hospital: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (dicom, dicom_tags):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    label = {"column": "finding", "positive": ["PTX"], "negative": ["none"]}
    options = {"table": "files.csv", "path": "file", "lookup": "name", "label": label}
    with pytest.raises(UserError, match=r"5 images are DICOM, such as .*0\.dcm: pip install"):
        read(hospital, **options)
    with pytest.raises(UserError, match=r"dicom: needs pydicom: pip install"):
        read(hospital, **options, dicom=["PatientSex"])
    with pytest.raises(UnreadableError, match="pip install"):
        shades(film(ramp(0, 4095)))
