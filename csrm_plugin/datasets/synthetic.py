"""Draws the synthetic data set: patterned objects on textured grounds, in VOC layout, reproducible by its seed.

It is made to show what weakly supervised segmentation is about, in pictures that a small network learns from scratch
in minutes. Each class has a shape with a plain body in a colour that other classes may have too, and one small
patterned patch that gives it away: a classifier looks at the patch, its activation map is too small, and the colour
edge of the body is what refinement can grow it to. Classes prefer a ground and a companion, as in real pictures.
"""

import contextlib
import json
import os
import os.path as osp
import shutil
import tempfile

import numpy as np
from PIL import Image

from csrm_plugin.datasets.voc_layout import voc_palette
from csrm_plugin.utils import UserError

#: Raise this number when the same settings draw other pictures than before.
VERSION = 1
SETTINGS_FILE = 'synthetic.json'
CLASSES = ('badge', 'crate', 'kite', 'tent', 'star', 'gear')
GROUNDS = ('meadow', 'water', 'sand', 'bricks')
#: Ground that a class mostly stands on, and class that mostly stands beside it.
FAVOURITE_GROUND = dict(badge='meadow', crate='bricks', kite='water', tent='meadow', star='bricks', gear='sand')
COMPANION = dict(badge='kite', crate='gear', kite='badge', tent='star', star='tent', gear='crate')
#: Mean hue of the bodies in turns. The spread of 0.11 lets neighbours overlap: colour alone does not tell them apart.
HUES = dict(badge=0.0, crate=0.09, kite=0.78, tent=0.15, star=0.88, gear=0.7)
HUE_SPREAD = 0.11


def draw_picture(rng: np.random.Generator, image_size: tuple[int, int] = (128, 96)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture.

    Args:
        rng (np.random.Generator): Source of all chance.
        image_size (tuple[int, int]): Width and height in pixels.

    Returns:
        tuple[np.ndarray, np.ndarray]: Picture, uint8 RGB (H, W, 3), and mask, uint8 (H, W): 0 is background, i the
        i-th of :data:`CLASSES` from 1.
    """
    width, height = image_size
    first = CLASSES[rng.integers(len(CLASSES))]
    names = [first]
    if rng.random() < 0.75:
        names.append(COMPANION[first] if rng.random() < 0.7 else CLASSES[rng.integers(len(CLASSES))])
    if rng.random() < 0.3:
        names.append(CLASSES[rng.integers(len(CLASSES))])
    ground = FAVOURITE_GROUND[first] if rng.random() < 0.65 else GROUNDS[rng.integers(len(GROUNDS))]
    canvas = _draw_ground(rng, ground, height, width)
    mask = np.zeros((height, width), dtype=np.uint8)
    for name in names:
        _place_object(rng, canvas, mask, name)
    light = (
        1
        + rng.uniform(-0.12, 0.12) * np.linspace(-1, 1, width)
        + rng.uniform(-0.1, 0.1) * np.linspace(-1, 1, height)[:, None]
    )
    canvas = canvas * light[..., None] + rng.normal(0, 3, canvas.shape)
    return canvas.clip(0, 255).astype(np.uint8), mask


def _draw_ground(rng: np.random.Generator, name: str, height: int, width: int) -> np.ndarray:
    """Texture of one ground, float (H, W, 3), 0 to 255; dull colours, so that bodies stand out."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    shift = rng.uniform(0, 2 * np.pi, 4)
    if name == 'meadow':
        texture = _smooth_noise(rng, height, width, 2) * 26 + _smooth_noise(rng, height, width, 12) * 12
        colour = (88, 118, 70)
    elif name == 'water':
        texture = 14 * np.sin(y * rng.uniform(0.5, 0.7) + 2.5 * np.sin(x * 0.07 + shift[0]) + shift[1])
        texture += _smooth_noise(rng, height, width, 10) * 8
        colour = (88, 116, 138)
    elif name == 'sand':
        texture = _smooth_noise(rng, height, width, 1) * 12 + 9 * np.sin((x + y) * 0.12 + shift[2])
        colour = (168, 152, 118)
    else:
        row = np.floor(y / 8 + shift[0])
        joint = ((y / 8 + shift[0]) % 1 < 0.16) | ((x / 16 + 0.5 * (row % 2) + shift[1]) % 1 < 0.09)
        texture = np.where(joint, 38, 0) + _smooth_noise(rng, height, width, 2) * 10
        colour = (112, 92, 86)
    return np.array(colour) + rng.uniform(-10, 10, 3) + texture[..., None]


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Noise (H, W) of about unit variance whose grains are ``cell`` pixels wide."""
    grid = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
    enlarged = Image.fromarray(grid).resize((grid.shape[1] * cell, grid.shape[0] * cell), Image.BILINEAR)
    return np.asarray(enlarged)[:height, :width]


def _place_object(rng: np.random.Generator, canvas: np.ndarray, mask: np.ndarray, name: str, tries: int = 20) -> None:
    """Draw an object in place where it hides little of the others; leave it out where no such place is found."""
    height, width = mask.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    for _ in range(tries):
        radius = rng.uniform(0.19, 0.31) * min(height, width)
        margin = 0.7 * radius
        centre = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
        angle = rng.uniform(-0.6, 0.6)
        u = ((x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)) / radius
        v = ((y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)) / radius
        shape = _inside(name, u, v)
        if (mask[shape] > 0).sum() <= 0.15 * shape.sum():
            break
    else:
        return
    value = rng.uniform(0.72, 0.98)
    body = _hsv(HUES[name] + rng.uniform(-1, 1) * HUE_SPREAD, rng.uniform(0.45, 0.8), value)
    canvas[shape] = body + _smooth_noise(rng, height, width, 3)[shape][:, None] * 4
    # The patch sits off the centre, so that the map of a classifier is not only too small but also shifted.
    offset = rng.uniform(-0.22, 0.22, 2)
    u, v = u - offset[0], v - offset[1]
    patch = shape & (u**2 + v**2 < 0.42**2)
    dark = _pattern(name, u, v) & patch
    canvas[patch] = body + 0.75 * (235 - body)
    canvas[dark] = 0.25 * body
    mask[shape] = CLASSES.index(name) + 1


def _inside(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which points (in units of the object's radius) belong to the object."""
    distance, angle = np.hypot(u, v), np.arctan2(v, u)
    shapes = dict(
        badge=distance < 0.95,
        crate=(abs(u) < 0.95) & (abs(v) < 0.72),
        kite=abs(u) * 1.25 + abs(v) * 0.9 < 1,
        tent=(v < 0.75) & (v > -0.85 + 1.6 * abs(u)),
        star=np.minimum(abs(u), abs(v)) + 0.62 * np.maximum(abs(u), abs(v)) < 0.62,
        gear=distance < 0.82 + 0.14 * np.sin(7 * angle),
    )
    return shapes[name]


def _pattern(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Dark points of the patch (in units of the object's radius)."""
    distance, angle = np.hypot(u, v), np.arctan2(v, u)
    patterns = dict(
        badge=np.sin(distance * 26) > 0,
        crate=np.sin(u * 22) > 0,
        kite=(np.sin(u * 17) > 0) ^ (np.sin(v * 17) > 0),
        tent=np.sin(v * 22) > 0,
        star=(np.sin((u + v) * 16) > 0.3) | (np.sin((u - v) * 16) > 0.3),
        gear=np.sin(angle * 5) > 0,
    )
    return patterns[name]


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB of 0 to 255 from hue in turns, saturation and value from 0 to 1."""
    phase = (np.array([5, 3, 1]) + hue * 6) % 6
    return 255 * value * (1 - saturation * np.clip(np.minimum(phase, 4 - phase), 0, 1))


def write_split(root: str, split: str, number: int, seed: int, image_size: tuple[int, int]) -> None:
    """Draw one split in VOC layout with its list and label file.

    Args:
        root (str): Data root; folders are made.
        split (str): Name of the split; other names draw other pictures.
        number (int): How many pictures.
        seed (int): Seed; picture i depends on seed, split and i only.
        image_size (tuple[int, int]): Width and height in pixels.
    """
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        os.makedirs(osp.join(root, folder), exist_ok=True)
    palette = np.array(voc_palette(256), dtype=np.uint8).tobytes()
    labels = {}
    for index in range(number):
        rng = np.random.default_rng([seed, *split.encode(), index])
        picture, mask = draw_picture(rng, image_size)
        image_id = f'{split}_{index:04d}'
        # Full chroma resolution keeps the colour edges where the mask has them.
        Image.fromarray(picture).save(osp.join(root, 'JPEGImages', f'{image_id}.jpg'), quality=95, subsampling=0)
        palette_mask = Image.fromarray(mask)
        palette_mask.putpalette(palette)
        palette_mask.save(osp.join(root, 'SegmentationClass', f'{image_id}.png'))
        labels[image_id] = [CLASSES[value - 1] for value in np.unique(mask) if value]
    with open(osp.join(root, 'ImageSets/Segmentation', f'{split}.txt'), 'w') as file:
        file.writelines(f'{image_id}\n' for image_id in labels)
    with open(osp.join(root, f'image_labels_{split}.json'), 'w') as file:
        json.dump(dict(classes=list(CLASSES), labels=labels), file, indent=0)


def ensure_synthetic(
    root: str, image_size: tuple[int, int] = (128, 96), num_train: int = 160, num_val: int = 48, seed: int = 0
) -> bool:
    """Draw the data set unless it is there already.

    It is drawn in a temporary folder beside ``root`` that is renamed at the end, so that nobody sees half of it; of
    several processes that draw at once, the first to end wins and the others take its data.

    Args:
        root (str): Data root.
        image_size (tuple[int, int]): Width and height in pixels, at least 32.
        num_train (int): Pictures of the split ``train``.
        num_val (int): Pictures of the split ``val``.
        seed (int): Seed, 0 or more.

    Returns:
        bool: Whether this call drew the data that is there now.

    Raises:
        UserError: A setting is out of range, or ``root`` holds other data.
    """
    if min(image_size) < 32 or num_train < 1 or num_val < 1 or seed < 0:
        raise UserError(
            'Synthetic data needs `image_size` of at least 32 x 32, `num_train` and `num_val` of at least 1 '
            f'and `seed` of at least 0, but got {image_size}, {num_train}, {num_val}, {seed}.'
        )
    settings = dict(version=VERSION, image_size=list(image_size), num_train=num_train, num_val=num_val, seed=seed)
    root = osp.realpath(root)
    if _is_made(root, settings):
        return False
    parent, name = osp.split(root)
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f'.{name}.', dir=parent)
    try:
        write_split(temporary, 'train', num_train, seed, image_size)
        write_split(temporary, 'val', num_val, seed, image_size)
        with open(osp.join(temporary, SETTINGS_FILE), 'w') as file:
            json.dump(settings, file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)  # `mkdtemp` makes folders that only the owner may enter
        try:
            os.rename(temporary, root)
        except OSError:
            # The target is no longer empty: another process was faster, or `_is_made` says what else is there.
            if not _is_made(root, settings):
                raise
            return False
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(temporary)


def _is_made(root: str, settings: dict) -> bool:
    """Whether ``root`` holds this data. Raises UserError if it holds other data."""
    path = osp.join(root, SETTINGS_FILE)
    if osp.isfile(path):
        with open(path) as file:
            found = json.load(file)
        if found == settings:
            return True
        raise UserError(
            f'{root} holds synthetic data with the settings {found}, but {settings} are asked for. '
            'Remove the folder or choose another `data_root`.'
        )
    if (osp.isdir(root) and os.listdir(root)) or osp.isfile(root):
        raise UserError(f'{root} holds something else than synthetic data: choose another `data_root`.')
    return False
