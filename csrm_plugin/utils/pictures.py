"""Pictures on the disk: their pixels, their size, their name."""

import contextlib
import os
import os.path as osp
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from csrm_plugin.utils import MissingFileError, UserError

#: EXIF tag that says which side of a photo is up; values from 5 on are turned by a quarter.
_ORIENTATION = 0x0112
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # SyntaxError: a broken PNG chunk


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """A picture turned as its camera says, as the loaders of the host see it.

    Args:
        path (str | os.PathLike): The file.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB; grey pictures and those with a palette or transparency too.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it is truncated or no picture.
    """
    with _opened(path) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert('RGB'))


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) in pixels of what :func:`read_rgb` would give, from the header alone; raises as that does."""
    with _opened(path) as picture:
        width, height = picture.size
        return (width, height) if picture.getexif().get(_ORIENTATION, 1) >= 5 else (height, width)


@contextlib.contextmanager
def _opened(path) -> Iterator[Image.Image]:
    """The picture of a file, with errors that name it."""
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError as error:
        raise MissingFileError(f'picture `{path}` does not exist') from error
    except _UNREADABLE as error:
        raise UserError(f'picture `{path}` cannot be read ({error}); it is truncated or no picture') from error


def picture_id(sample: Any) -> str:
    """Name of the picture of a data sample: its id, else the name of its file without the ending.

    Args:
        sample (dict | SegDataSample): With ``img_id`` or ``img_path``, as a dict or in its metainfo.

    Example:
        >>> picture_id({'img_path': 'photos/cat.jpg'}), picture_id({'img_id': 7})
        ('cat', '7')
    """
    meta = sample if isinstance(sample, dict) else sample.metainfo
    return str(meta.get('img_id') or osp.splitext(osp.basename(str(meta.get('img_path'))))[0])
