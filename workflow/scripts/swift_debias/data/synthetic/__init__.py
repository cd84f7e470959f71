"""Made-up raw folders: all eleven data sets in their official layouts, for the demo.

Tables of which the kind of bias is a variable, for the benchmark, are another story (`kinds.py`).

From here on the pipeline does not know that it is the demo: names, columns, words and number
formats are those of the real releases. The pictures are drawn (`drawing.py`) from a story with
written-down causes (`population.py`); in brackets the key that sets an arrow's strength:

    label --[core]--> severity --> skin:  ragged, asymmetric outline; black, red and blue-white
                                   chest: pleural line, and beyond it a rim without vessels
    skin type --[appearance]--> lightness of the whole skin
    sex -------[appearance]--> skin:  ruddy hairy trunk, or cooler smooth limb with shaded sides
                               chest: broad shoulders and wide lungs, or breast shadows
    age -------[appearance]--> chest: faint ribs, wide aorta, large heart, grey film
                               skin:  a few sun spots (not tied to the label)
    label <--[correlation in the pool, test_correlation in the test sets]--> attribute:
                               melanoma with light skin and with men; pneumothorax with men and
                               with the old; the two attributes independent, given the label
    source ----[shift]-------> camera: zoom, white balance, gamma, blur, noise, dark corners, marks

The core feature is independent of every attribute, given the label. It takes shape and texture
inside the lesion or lung to see it; the attributes show in the mean colour of the picture. The
story is a caricature: real skin colour or sex is not tied to melanoma by such rules, and in real
ISIC images dark skin is far rarer than here.

Every folder also has what real folders have, in small known amounts. A share `settings.unknown` of
sexes, ages or skin types is unknown, in the words of each data set; patients and lesions have
several images; X-rays come with lateral views, other findings and uncertain labels. Every data set
has a table row without its file; isic2019, atlas, pad_ufes_20, mimic_cxr, chexpert and nih have a
file without its row; isic2019, fitzpatrick17k and mimic_cxr a truncated image. ISIC 2019 contains
all pictures of 2017 and 2018 (a fifth of 2017's as `_downsampled`). ISIC 2020 has a share
`settings.duplicates` of listed second pictures of a lesion, as many unlisted copies stored anew
(one with the other label), and 3 pictures each that are also test images of Fitzpatrick-17k and of
the Atlas.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...config.schema import Synthetic
from ...errors import UserError
from . import chest, isic, kinds, skin
from .folder import Folder

_WRITERS: dict[str, Callable[[Folder], None]] = {
    "isic2017": isic.write_2017,
    "isic2018": isic.write_2018,
    "isic2019": isic.write_2019,
    "isic2020": isic.write_2020,
    "fitzpatrick17k": skin.write_fitzpatrick17k,
    "ddi": skin.write_ddi,
    "atlas": skin.write_atlas,
    "pad_ufes_20": skin.write_pad_ufes_20,
    "mimic_cxr": chest.write_mimic_cxr,
    "chexpert": chest.write_chexpert,
    "nih": chest.write_nih,
}


def write(name: str, settings: Synthetic, seed: int, root: Path) -> None:
    """Write the raw folder of one data set.

    Args:
        name: of the data set, as its adapter's; or one of `settings.populations`.
        settings: sizes and strengths.
        seed: of the run. The folder's bytes depend on it, on `settings` and on `name` alone.
        root: the folder to fill.

    Raises:
        UserError: the data set is none of the eleven, or a size is missing or too small.
    """
    if name in settings.populations:
        kinds.write(Folder(name, settings, seed, root), settings.populations[name])
        return
    if name not in _WRITERS:
        raise UserError(f"synthetic: cannot draw {name!r}, only {', '.join(_WRITERS)}")
    _WRITERS[name](Folder(name, settings, seed, root))
