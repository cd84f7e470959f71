"""Drawings of skin lesions and chest X-rays for the demo (`__init__.py` tells the story).

Whole batches are drawn at once, in float32, directly at their final size. Coordinates are in units
of half the image's shorter side: x to the right, y downwards, (0, 0) the centre. Every random
number comes from generators that the caller derives from the image's identity, one for what belongs
to the lesion or patient (`look`) and one for what belongs to this picture of it (`view`), so an
image is the same whoever draws it and whatever else is in the batch.

Longer than other files: every pixel of the demo is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Streams: TypeAlias = Sequence[np.random.Generator]

_HAIRS = 12
_HAIR_POINTS = 56
_BORDER_WAVES = np.arange(2, 10)
_BORDER_ANGLES = 128


@dataclass(frozen=True)
class Camera:
    """How a source takes its pictures; the reference camera is `Camera()`."""

    formats: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    """(height, width) of the source's usual formats, in units of the configured shorter side."""
    zoom: float = 1.0
    """Size of the lesion or thorax in the frame."""
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """White balance: gain of red, green and blue (X-rays: only the first is used)."""
    gamma: float = 1.0
    blur: float = 0.0
    """Share of a 3 x 3 box blur, 0 to 1."""
    noise: float = 0.012
    """Standard deviation of the sensor's noise; white is 1."""
    vignette: float = 0.0
    """Share of pictures with the dark corners of a dermoscope or of a collimator."""
    ruler: float = 0.0
    """Share of pictures with a scale (skin) or a side marker (X-ray) in them."""

    def shifted(self, reference: Camera, shift: float) -> Camera:
        """This camera for shift 1, `reference` (but for the format) for shift 0, linear between."""

        def mix(ours: float, theirs: float) -> float:
            return shift * ours + (1 - shift) * theirs

        return Camera(
            formats=self.formats,
            zoom=mix(self.zoom, reference.zoom),
            cast=(
                mix(self.cast[0], reference.cast[0]),
                mix(self.cast[1], reference.cast[1]),
                mix(self.cast[2], reference.cast[2]),
            ),
            gamma=mix(self.gamma, reference.gamma),
            blur=mix(self.blur, reference.blur),
            noise=mix(self.noise, reference.noise),
            vignette=mix(self.vignette, reference.vignette),
            ruler=mix(self.ruler, reference.ruler),
        )


@dataclass(frozen=True)
class SkinScenes:
    """What n photographs of skin show; arrays are float32 (n,)."""

    severity: Array
    """0 = round, one brown ... 1 = ragged, asymmetric, several colours."""
    lightness: Array
    """CIELAB L of the skin, 0 to 100."""
    male: Array
    """0 = smooth limb with shaded sides, cool tint ... 1 = flat hairy trunk, ruddy tint."""
    age: Array
    """Years; shows as sun spots."""
    look: Streams
    view: Streams


@dataclass(frozen=True)
class ChestScenes:
    """What n X-rays of the chest show; arrays are float32 (n,)."""

    severity: Array
    """Up to 0.25 a fully expanded lung; beyond, the pleural line moves inwards."""
    male: Array
    """0 = breast shadows, narrow shoulders ... 1 = broad shoulders, none."""
    old: Array
    """0 = dense bones, slim mediastinum ... 1 = faint ribs, wide aorta and heart, grey film."""
    effusion: Array
    """Height of fluid above one diaphragm, 0 = none."""
    look: Streams
    view: Streams


# --- helpers --------------------------------------------------------------------------------------


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Coordinates y (height, 1) and x (1, width) of pixel centres, in half shorter sides."""
    half = min(height, width) / 2
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half
    return y[:, None].astype(np.float32), x[None, :].astype(np.float32)


def _normal(streams: Streams, *shape: int) -> Array:
    """Standard normal numbers (n, *shape), row i from streams[i]."""
    return np.stack([s.standard_normal(shape, dtype=np.float32) for s in streams])


def _uniform(streams: Streams, *shape: int) -> Array:
    """Uniform numbers in [0, 1), (n, *shape), row i from streams[i]."""
    return np.stack([s.random(shape, dtype=np.float32) for s in streams])


def _smooth(knots: Array, height: int, width: int) -> Array:
    """Smooth random fields (n, height, width) of unit variance from normal knots (n, g, g)."""

    def weights(size: int) -> Array:
        centres = np.linspace(0, 1, knots.shape[1], dtype=np.float32)
        places = np.linspace(0, 1, size, dtype=np.float32)
        distance = (places[:, None] - centres[None, :]) * (knots.shape[1] - 1)
        kernel = np.exp(-(distance**2))
        return (kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32)

    # einsum without BLAS: the sum's order, and so every byte, is independent of thread counts.
    rows = np.einsum("hg,ngk->nhk", weights(height), knots)
    return np.einsum("nhk,wk->nhw", rows, weights(width))


def _step(value: Array, softness: float | Array) -> Array:
    """0 below zero, 1 above, with a linear ramp `softness` wide."""
    return np.clip(value / softness + 0.5, 0, 1)


def _each(values: Array) -> Array:
    """(n,) made ready to multiply (n, height, width)."""
    return values[:, None, None]


def lab_to_rgb(lab: Array) -> Array:
    """CIELAB (D65) to sRGB in [0, 1]; both (..., 3). IEC 61966-2-1 and CIE 15."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    xyz = xyz * np.array([0.95047, 1.0, 1.08883])
    to_linear = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    linear = np.clip(np.einsum("...k,ck->...c", xyz, to_linear), 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb.astype(np.float32)


def _develop(planes: Sequence[Array], camera: Camera, view: Streams) -> Bytes:
    """Blur, gamma, noise and 8 bits: planes (n, h, w) in [0, 1] to (n, h, w, len(planes))."""
    n, height, width = planes[0].shape
    noise = _normal(view, height, width) * np.float32(camera.noise)
    out = np.empty((n, height, width, len(planes)), dtype=np.uint8)
    for channel, plane in enumerate(planes):
        if camera.blur > 0:
            padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
            rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
            box = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
            plane = plane + np.float32(camera.blur) * (box - plane)
        plane = np.clip(plane, 0, 1) ** np.float32(camera.gamma) + noise
        out[..., channel] = np.clip(plane * 255 + 0.5, 0, 255)
    return out


# --- skin -----------------------------------------------------------------------------------------


def draw_skin(scenes: SkinScenes, camera: Camera, height: int, width: int) -> Bytes:
    """Photographs of a lesion on skin, uint8 RGB (n, height, width, 3)."""
    y, x = _grid(height, width)
    chance = _uniform(scenes.view, 12)
    lesion, pigment = _lesion(scenes, camera, chance, y, x)
    light = _illumination(scenes, chance, y, x)
    spots = _smooth(_normal(scenes.look, 15, 15), height, width)
    spots = np.clip(spots - _each(3.2 - 0.022 * scenes.age), 0, 1) * (1 - lesion)
    hairs = _hairs(scenes, height, width)

    # Seen through the dermoscope's round window; beside it nearly black.
    corner = _step(np.hypot(x, y)[None] - 1.28, 0.1)
    shown = 1 - 0.96 * corner * _each((chance[:, 0] < camera.vignette).astype(np.float32))
    ticks = ((y > 0.82) & (np.abs(np.sin(x * 14)) > 0.93)).astype(np.float32)
    shown = shown * (1 - 0.8 * ticks * _each((chance[:, 1] < camera.ruler).astype(np.float32)))

    skin = _skin_colour(scenes)
    planes = []
    for channel, (spot, hair) in enumerate(
        zip((0.80, 0.70, 0.62), (0.26, 0.20, 0.17), strict=True)
    ):
        plane = _each(skin[:, channel]) * light * pigment[channel]
        plane = plane * (1 - spots * (1 - spot))
        plane = plane + hairs * (hair * (0.6 + 0.4 * _each(skin[:, channel])) - plane)
        planes.append(plane * shown * np.float32(camera.cast[channel]))
    return _develop(planes, camera, scenes.view)


def _skin_colour(scenes: SkinScenes) -> Array:
    """sRGB of the bare skin (n, 3). Men's is drawn ruddier; b rises a little with darkness, so
    the individual typology angle atan((L - 50) / b) follows the lightness.
    """
    vary = _normal(scenes.look, 3)
    lab = np.stack(
        [
            scenes.lightness + 1.0 * vary[:, 0],
            13 + 6 * (scenes.male - 0.5) * scenes.lightness / 60 + 1.0 * vary[:, 1],
            19 - 0.05 * (scenes.lightness - 40) + 0.8 * vary[:, 2],
        ],
        axis=-1,
    )
    return lab_to_rgb(lab)


def _illumination(scenes: SkinScenes, chance: Array, y: Array, x: Array) -> Array:
    """Light on the skin (n, h, w), about 1: lamp, limb's roundness, mottling and pores."""
    height, width = y.shape[0], x.shape[1]
    turn = 2 * np.pi * _each(chance[:, 2])
    across = np.cos(turn) * x + np.sin(turn) * y
    lamp = 0.05 * across
    limb = np.cos(np.pi * _each(chance[:, 3])) * x + np.sin(np.pi * _each(chance[:, 3])) * y
    round_off = 0.26 * _each(1 - scenes.male) * np.clip(np.abs(limb) - 0.25, 0, None) ** 1.5
    mottling = 0.018 * _smooth(_normal(scenes.look, 9, 9), height, width)
    pores = 0.012 * _normal(scenes.view, height, width)
    return 1 + lamp - round_off + mottling + pores


def _lesion(
    scenes: SkinScenes, camera: Camera, chance: Array, y: Array, x: Array
) -> tuple[Array, list[Array]]:
    """Mask (n, h, w) of the lesion, and what it leaves of the skin's red, green and blue."""
    height, width = y.shape[0], x.shape[1]
    severity = _each(scenes.severity)
    shape = _normal(scenes.look, len(_BORDER_WAVES), 2)
    trait = _uniform(scenes.look, 6)
    fields = [
        _smooth(knots, height, width) for knots in np.moveaxis(_normal(scenes.look, 4, 8, 8), 1, 0)
    ]

    radius = _each(camera.zoom * (0.38 + 0.20 * trait[:, 0])) * (0.95 + 0.1 * _each(chance[:, 4]))
    angle = 2 * np.pi * _each(chance[:, 5])
    dx = x - 0.36 * _each(chance[:, 6] - 0.5)
    dy = y - 0.36 * _each(chance[:, 7] - 0.5)
    stretch = 1 + 0.25 * _each(trait[:, 1])
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / (radius * stretch)
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius * stretch
    reach = np.hypot(u, v) / _border(shape, scenes.severity, np.arctan2(v, u))
    reach = reach + 0.07 * severity * fields[0]
    mask = _step(1 - reach, 0.32 - 0.10 * severity)

    depth = _each(0.5 + 0.35 * trait[:, 2]) * (1 - 0.25 * _each(trait[:, 3]) * reach)
    depth = mask * np.clip(depth + 0.05 * fields[0] * (1 + severity), 0, 1)
    # ABCD rule's C: a mole is one brown, a melanoma also black, red and blue-white.
    black = mask * np.clip(1.1 * severity * fields[1] - 0.2, 0, 0.75)
    red = mask * np.clip(1.0 * severity * fields[2] - 0.3, 0, 0.55)
    veil = mask * np.clip(1.1 * severity * fields[3] - 0.4, 0, 0.55)
    left = []
    tints = ((0.55, 0.24, 0.78, 0.58), (0.40, 0.18, 0.44, 0.60), (0.32, 0.18, 0.40, 0.78))
    for brown, dark, rose, blue in tints:
        colour = 1 - depth * (1 - brown)
        colour = colour + black * (dark - colour)
        colour = colour + red * (rose - colour)
        left.append(colour + veil * (blue - colour))
    return mask, left


def _border(shape: Array, severity: Array, angle: Array) -> Array:
    """Radius of the outline at each angle (n, h, w), about 1; ragged with severity."""
    grid = np.linspace(-np.pi, np.pi, _BORDER_ANGLES, endpoint=False, dtype=np.float32)
    waves = _BORDER_WAVES[:, None] * grid
    amplitude = (0.12 + 0.28 * severity[:, None]) / _BORDER_WAVES**1.2
    outline = np.einsum("nk,ka->na", amplitude * shape[:, :, 0], np.cos(waves).astype(np.float32))
    outline += np.einsum("nk,ka->na", amplitude * shape[:, :, 1], np.sin(waves).astype(np.float32))
    place = ((angle + np.pi) * (_BORDER_ANGLES / (2 * np.pi))).astype(np.int64) % _BORDER_ANGLES
    table = np.clip(1 + outline, 0.45, 1.7).astype(np.float32)
    return np.take_along_axis(table, place.reshape(len(table), -1), axis=1).reshape(angle.shape)


def _hairs(scenes: SkinScenes, height: int, width: int) -> Array:
    """Opacity of hair (n, h, w): curved strokes, splatted point by point; few on women's skin."""
    chance = _uniform(scenes.view, _HAIRS, 5)
    comb = np.pi * _uniform(scenes.view, 1)
    count = (_HAIRS * np.clip(1.15 * scenes.male - 0.15, 0, 1))[:, None]
    grown = (np.arange(_HAIRS)[None] < count).astype(np.float32)
    along = np.linspace(-0.5, 0.5, _HAIR_POINTS, dtype=np.float32)
    half = min(height, width) / 2
    direction = (comb + 1.2 * (chance[..., 2] - 0.5))[..., None]
    length = half * (0.7 + 0.8 * chance[..., 3:4])
    bend = half * 0.5 * (chance[..., 4:5] - 0.5)
    px = chance[..., 0:1] * width + length * along * np.cos(direction)
    px = px - bend * (4 * along**2) * np.sin(direction)
    py = chance[..., 1:2] * height + length * along * np.sin(direction)
    py = py + bend * (4 * along**2) * np.cos(direction)

    opacity = np.zeros(len(count) * height * width, dtype=np.float64)
    image = np.arange(len(count))[:, None, None]
    left, top = np.floor(px), np.floor(py)
    for column, share_x in ((left, 1 - (px - left)), (left + 1, px - left)):
        for row, share_y in ((top, 1 - (py - top)), (top + 1, py - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = share_x * share_y * grown[..., None] * inside
            cell = (image * height + np.where(inside, row, 0)) * width + np.where(inside, column, 0)
            opacity += np.bincount(
                cell.astype(np.int64).ravel(), weight.ravel(), minlength=len(opacity)
            )
    return np.clip(opacity, 0, 0.9).astype(np.float32).reshape(-1, height, width)


# --- chest ----------------------------------------------------------------------------------------


def draw_chest(scenes: ChestScenes, camera: Camera, height: int, width: int) -> Bytes:
    """Frontal X-rays, uint8 grey (n, height, width, 1). The patient's left is on the right."""
    y, x = _grid(height, width)
    body = _uniform(scenes.look, 9)
    chance = _uniform(scenes.view, 12)
    tilt = 0.20 * _each(chance[:, 0] - 0.5)
    scale = camera.zoom * (1.02 + 0.20 * _each(chance[:, 1]))
    X = (x + tilt * y + 0.24 * _each(chance[:, 2] - 0.5)) / scale
    Y = (y - tilt * x + 0.24 * _each(chance[:, 3] - 0.5)) / scale
    side = np.sign(_each(chance[:, 4]) - 0.5)

    lung, rim, line = _lungs(scenes, body, chance, X, Y, side)
    film = _soft_tissue(scenes, body, X, Y)
    film = film - lung * (0.36 + 0.04 * _each(body[:, 0]))
    markings = 0.07 * np.abs(_smooth(_normal(scenes.view, 19, 19), height, width))
    hilum = np.exp(-((np.abs(X) - 0.2) ** 2 + (Y - 0.05) ** 2) / 0.16)
    film = film + lung * (1 - rim) * markings * (0.5 + 1.6 * hilum) - 0.11 * rim + 0.15 * line
    film = film + _bones(scenes, body, X, Y)
    film = film + 0.9 * _mediastinum(scenes, body, X, Y) * (0.74 - film)
    haze = 0.08 * _smooth(_normal(scenes.view, 5, 5), height, width)
    film = film + haze - _stomach_gas(chance, X, Y)

    # Older patients are imaged lying down, by portable machines: less contrast.
    film = 0.5 + (film - 0.5) * (1.12 - 0.34 * _each(scenes.old)) + 0.09 * _each(scenes.old - 0.5)
    film = film * (camera.cast[0] * (0.94 + 0.12 * _each(chance[:, 5])))
    framed = _each((chance[:, 6] < camera.vignette).astype(np.float32))
    margin = 0.86 + 0.1 * _each(chance[:, 7])
    film = film * (1 - framed * _step(np.abs(x) / x.max() - margin, 0.03))
    marked = _each((chance[:, 8] < camera.ruler).astype(np.float32))
    letter = (np.abs(x - 0.8 * x.max()) < 0.06) & (np.abs(y + 0.84 * y.max()) < 0.08)
    film = film + marked * letter * (0.95 - film)
    return _develop([film], camera, scenes.view)


def _lungs(
    scenes: ChestScenes, body: Array, chance: Array, X: Array, Y: Array, side: Array
) -> tuple[Array, Array, Array]:
    """Air in the thorax, the rim without lung in it, and the pleural line: each (n, h, w)."""
    old, male = _each(scenes.old), _each(scenes.male)
    breadth = 0.30 + 0.03 * male + 0.06 * _each(body[:, 1])
    tall = 0.62 + 0.05 * old + 0.14 * _each(body[:, 2])
    centre_x, centre_y = 0.44, -0.08
    across = np.abs(X)

    def level(u: Array, v: Array) -> Array:
        apex = breadth * (1.05 + 0.22 * v)
        inside = np.abs((u - centre_x + 0.06 * v) / apex) ** 2.6
        return 1 - inside - np.abs((v - centre_y) / tall) ** 2.6

    lung = _step(level(across, Y), 0.22)
    # The right dome stands higher, because of the liver.
    dome = 0.36 + 0.12 * _each(chance[:, 10]) + 0.06 * (X > 0) - 0.03 * old
    dome = dome + 1.1 * (across - 0.40) ** 2
    fluid = _each(scenes.effusion) * (np.sign(X) == side)
    lung = lung * _step(dome - fluid - Y, 0.06)

    # The lung shrinks towards its root; the rim above and beside it is air without vessels.
    collapse = 0.85 * np.clip(_each(scenes.severity) - 0.25, 0, None)
    collapse = collapse * (0.85 + 0.3 * _each(chance[:, 9]))
    u = 0.16 + (across - 0.16) / (1 - collapse)
    v = 0.20 + (Y - 0.20) / (1 - 0.8 * collapse)
    inner = level(u, v)
    shown = lung * (np.sign(X) == side) * np.clip(collapse / 0.05, 0, 1)
    return lung, shown * _step(-inner, 0.10), shown * np.exp(-((inner / 0.09) ** 2))


def _soft_tissue(scenes: ChestScenes, body: Array, X: Array, Y: Array) -> Array:
    """Shoulders, chest wall, breasts and abdomen against the black of the air (n, h, w)."""
    male = _each(scenes.male)
    flank = 0.88 + 0.10 * male + 0.05 * _each(body[:, 3]) - 0.10 * np.clip(Y - 0.1, 0, None)
    shoulder = -0.95 + 0.55 * np.clip(np.abs(X) - 0.25, 0, None) ** 1.6 - 0.06 * male
    trunk = _step(flank + 0.5 * np.clip(-Y - 0.25, 0, None) - np.abs(X), 0.08)
    trunk = trunk * _step(Y - shoulder, 0.10)
    neck = _step(0.24 + 0.03 * male - np.abs(X), 0.08) * (Y < -0.3)
    film = 0.03 + 0.57 * np.maximum(trunk, neck)
    film = film + 0.16 * trunk * _step(Y - 0.55, 0.4)
    breast_x = (np.abs(X) - 0.52) / 0.36
    breast_y = (Y - 0.20 - 0.08 * _each(body[:, 4])) / 0.34
    inside = 1 - breast_x**2 - breast_y**2
    breast = _step(inside, 0.5) * (0.55 + 0.45 * np.clip(breast_y + 0.4, 0, 1))
    return film + 0.20 * (1 - male) * breast * trunk


def _bones(scenes: ChestScenes, body: Array, X: Array, Y: Array) -> Array:
    """Ribs, clavicles and spine (n, h, w); fainter with age."""
    density = _each(1.1 - 0.65 * scenes.old)
    across = np.abs(X)
    cage = (
        _step(0.82 - across, 0.12) * _step(across - 0.08, 0.1) * _step(0.62 - np.abs(Y + 0.1), 0.2)
    )
    spacing = 0.165 + 0.02 * _each(body[:, 5])
    back = Y + 0.55 * (across - 0.30) ** 2 - 0.22 * across
    front = Y - 0.75 * across**2
    phase = 2 * np.pi * _each(body[:, 6])
    ribs = np.clip(np.cos(2 * np.pi * back / spacing + phase), 0.1, 1)
    ribs = 0.11 * ribs + 0.035 * np.clip(np.cos(2 * np.pi * front / (1.25 * spacing)), 0.2, 1)
    collar = Y + 0.66 + 0.04 * _each(body[:, 7]) + 0.22 * (across - 0.2)
    clavicle = 0.14 * np.exp(-((collar / 0.045) ** 2)) * _step(0.75 - across, 0.1)
    clavicle = clavicle * _step(across - 0.1, 0.1)
    spine = np.exp(-((X / 0.08) ** 2)) * (0.05 + 0.025 * np.cos(2 * np.pi * Y / 0.16))
    return density * (cage * ribs + clavicle + spine)


def _mediastinum(scenes: ChestScenes, body: Array, X: Array, Y: Array) -> Array:
    """Opacity of great vessels and heart (n, h, w); aortic knob and heart grow with age."""
    old = _each(scenes.old)
    band = _step(0.11 + 0.09 * old + 0.10 * np.clip(Y, 0, None) - np.abs(X), 0.08)
    band = band * _step(Y + 0.9, 0.4)
    knob_x, knob_y = X - 0.13 - 0.05 * old, Y + 0.30
    knob = _step(0.07 + 0.09 * old - np.hypot(knob_x, knob_y), 0.06)
    size = 0.25 + 0.08 * old + 0.09 * _each(body[:, 8])
    along, down = X - 0.12 + 0.4 * (Y - 0.27), Y - 0.27 - 0.25 * (X - 0.12)
    heart = _step(1 - np.hypot(along / size, down / (0.85 * size)), 0.3)
    return np.maximum(np.maximum(band, heart), knob) * _step(0.75 - Y, 0.4)


def _stomach_gas(chance: Array, X: Array, Y: Array) -> Array:
    """Darkness of the gas bubble that many have under the left dome (n, h, w)."""
    fasting = _each(chance[:, 11])
    size = 0.05 + 0.12 * fasting
    bubble_x, bubble_y = (X - 0.42) / (1.3 * size), (Y - 0.55 - size) / size
    return 0.16 * (fasting > 0.5) * _step(1 - np.hypot(bubble_x, bubble_y), 0.3)


def draw_lateral(scenes: ChestScenes, camera: Camera, height: int, width: int) -> Bytes:
    """Lateral chest X-rays, uint8 grey (n, height, width, 1): spine behind, heart in front."""
    y, x = _grid(height, width)
    body = _uniform(scenes.look, 4)
    chest = _step(
        1 - (np.abs(x) / (0.72 + 0.08 * _each(body[:, 0]))) ** 3 - np.abs(y / 1.1) ** 4, 0.2
    )
    lung = _step(1 - np.abs((x - 0.05) / 0.52) ** 2.2 - np.abs((y + 0.05) / 0.68) ** 2.2, 0.25)
    spine = np.exp(-(((x - 0.42 + 0.15 * y**2) / 0.1) ** 2))
    spine = spine * (0.16 + 0.06 * np.cos(2 * np.pi * y / 0.17))
    heart = _step(
        1 - np.hypot((x + 0.2) / 0.3, (y - 0.28) / (0.28 + 0.06 * _each(body[:, 1]))), 0.3
    )
    markings = 0.06 * np.abs(_smooth(_normal(scenes.view, 15, 15), height, width))
    film = 0.03 + 0.66 * chest - lung * (0.34 - markings) + spine + 0.26 * heart * lung
    return _develop([film.astype(np.float32)], camera, scenes.view)
