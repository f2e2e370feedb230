"""COCO annotations to a folder in VOC layout: links to the pictures, masks, a split list and image-level labels."""

import json
import os
import os.path as osp
import shutil
from types import ModuleType

import numpy as np

from csrm_plugin.datasets.preparation.common import progress, refuse_existing, write_labels, write_mask
from csrm_plugin.datasets.voc_layout import SPLIT_FOLDER
from csrm_plugin.utils import IGNORE_INDEX, MissingFileError, UserError, atomic_write

CROWDS = ('class', 'ignore', 'skip')
LINKS = ('symlink', 'hardlink', 'copy', 'none')


def prepare_coco(
    annotations: str,
    images: str | None,
    root: str,
    split: str,
    label_path: str | None = None,
    crowd: str = 'class',
    link: str = 'symlink',
    with_masks: bool = True,
    keep_unlabelled: bool = False,
    overwrite: bool = False,
) -> dict:
    """Turn one COCO annotation file into a split of a folder in VOC layout.

    Ids are the stems of the file names. Categories get the numbers from 1 in the order of their COCO ids (for COCO
    2014: 1 to 80). Larger instances are painted first, so small ones stay visible on top of them. Image-level labels
    are the categories of the annotations, whether or not a pixel of them stays visible.

    Args:
        annotations (str): Such as ``instances_train2014.json``.
        images (str | None): Folder of the pictures, needed unless ``link`` is 'none'.
        root (str): Folder to make or extend: JPEGImages, SegmentationClass, ImageSets/Segmentation.
        split (str): Name of the split.
        label_path (str, optional): Label file. Default ``<root>/image_labels_<split>.json``.
        crowd (str): Regions marked ``iscrowd``: 'class' paints them as their class, 'ignore' as 255 below all
            instances, 'skip' leaves them out. Only 'class' makes them count for the image-level labels.
        link (str): How pictures get into JPEGImages: 'symlink', 'hardlink', 'copy', or 'none' if they are there.
        with_masks (bool): Whether to paint masks; needs the package ``pycocotools``.
        keep_unlabelled (bool): Keep pictures without any object. By default they are left out, as in the usual lists
            for weak supervision (82081 + 40137 pictures).
        overwrite (bool): Replace a label file and a split list that are there.

    Returns:
        dict: ``classes`` (list[str]), ``labels`` (names per id), ``label_path`` and ``left_out`` (number of pictures).

    Raises:
        MissingFileError: The annotations or a picture do not exist.
        UserError: The annotations are no COCO file, an option is unknown, files are there already, or masks are asked
            for without pycocotools.
    """
    if crowd not in CROWDS or link not in LINKS:
        raise UserError(f'`crowd` must be one of {CROWDS} and `link` one of {LINKS}, but got {crowd!r} and {link!r}.')
    label_path = label_path or osp.join(root, f'image_labels_{split}.json')
    list_path = osp.join(root, SPLIT_FOLDER, f'{split}.txt')
    refuse_existing([label_path, list_path], overwrite)
    content = _read_annotations(annotations)
    coder = _import_coder() if with_masks else None
    categories = sorted(content['categories'], key=lambda category: category['id'])
    classes = [category['name'] for category in categories]
    if len(classes) >= IGNORE_INDEX:
        raise UserError(f'{annotations} has {len(classes)} categories; masks of 8 bits hold at most 254.')
    number = {category['id']: index for index, category in enumerate(categories, start=1)}
    of_image = _group_by_image(annotations, content, number)

    labels = {}
    pictures = []
    for image in content['images']:
        instances = of_image[image['id']]
        counted = [one for one in instances if crowd == 'class' or not one.get('iscrowd')]
        if not counted and not keep_unlabelled:
            continue
        image_id = osp.splitext(osp.basename(image['file_name']))[0]
        labels[image_id] = {classes[number[one['category_id']] - 1] for one in counted}
        pictures.append((image_id, image, instances))
    if not pictures:
        raise UserError(f'{annotations} has no picture with objects.')

    for image_id, image, instances in progress(pictures, f'COCO {split}'):
        if link != 'none':
            _place_picture(images, image['file_name'], root, link)
        if with_masks:
            mask = paint_mask(instances, number, image['height'], image['width'], crowd, coder)
            write_mask(osp.join(root, 'SegmentationClass', f'{image_id}.png'), mask)
    with atomic_write(list_path) as temporary, open(temporary, 'w') as file:
        file.writelines(f'{image_id}\n' for image_id in labels)
    write_labels(label_path, classes, labels)
    return dict(classes=classes, labels=labels, label_path=label_path, left_out=len(content['images']) - len(pictures))


def paint_mask(
    instances: list[dict],
    number: dict[int, int],
    height: int,
    width: int,
    crowd: str = 'class',
    coder: ModuleType | None = None,
) -> np.ndarray:
    """Paint the instances of one picture into a semantic mask.

    Args:
        instances (list[dict]): COCO annotations with ``segmentation`` (polygons or run lengths).
        number (dict[int, int]): Pixel value per category id.
        height (int): Height in pixels.
        width (int): Width in pixels.
        crowd (str): See :func:`prepare_coco`.
        coder (module, optional): ``pycocotools.mask``.

    Returns:
        np.ndarray: (H, W) uint8: 0 background, else the values of ``number``, 255 ignored.
    """
    coder = coder or _import_coder()
    layers = []
    for instance in instances:
        is_crowd = bool(instance.get('iscrowd'))
        if is_crowd and crowd == 'skip':
            continue
        region = _decode(instance['segmentation'], height, width, coder)
        ignored = is_crowd and crowd == 'ignore'
        value = IGNORE_INDEX if ignored else number[instance['category_id']]
        layers.append((not ignored, -int(region.sum()), value, region))
    mask = np.zeros((height, width), dtype=np.uint8)
    for _, _, value, region in sorted(layers, key=lambda layer: layer[:2]):
        mask[region] = value
    return mask


def _group_by_image(path: str, content: dict, number: dict[int, int]) -> dict[int, list[dict]]:
    """Annotations per image id; an empty list for pictures without any."""
    of_image = {image['id']: [] for image in content['images']}
    for instance in content['annotations']:
        for key, known in (('category_id', number), ('image_id', of_image)):
            if instance.get(key) not in known:
                raise UserError(f'{path}: annotation {instance.get("id")} has the unknown {key} {instance.get(key)}.')
        of_image[instance['image_id']].append(instance)
    return of_image


def _decode(segmentation: list | dict, height: int, width: int, coder: ModuleType) -> np.ndarray:
    """Bool (H, W) of a segmentation in any of COCO's three forms."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        runs = coder.merge(coder.frPyObjects(polygons, height, width))
    elif isinstance(segmentation['counts'], list):
        runs = coder.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    return coder.decode(runs).astype(bool)


def _import_coder() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            'Painting COCO masks needs pycocotools: `pip install pycocotools`, or give --no-masks for '
            'image-level labels alone.'
        ) from error
    return mask


def _read_annotations(path: str) -> dict:
    if not osp.isfile(path):
        raise MissingFileError(f'COCO annotations {path} do not exist: give the file with --annotations.')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:
        raise UserError(f'{path} is not valid JSON: {error}.') from error
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f'{path} is no COCO instance file: it has no list {key!r}.')
    return content


def _place_picture(images: str | None, file_name: str, root: str, link: str) -> None:
    """Put one picture into JPEGImages; one that is there already stays."""
    target = osp.join(root, 'JPEGImages', osp.basename(file_name))
    if osp.exists(target):
        return
    source = osp.abspath(osp.join(images or '', file_name))
    if images is None or not osp.isfile(source):
        raise MissingFileError(f'Picture {source} does not exist: give the folder of the pictures with --images.')
    os.makedirs(osp.dirname(target), exist_ok=True)
    if osp.lexists(target):
        os.unlink(target)  # a link whose picture has moved
    if link == 'symlink':
        # Relative where the pictures are inside the root, so that the whole folder can be moved.
        inside = osp.commonpath([source, osp.abspath(root)]) == osp.abspath(root)
        os.symlink(osp.relpath(source, osp.dirname(osp.realpath(target))) if inside else source, target)
    elif link == 'hardlink':
        os.link(source, target)
    else:
        # Copied under another name first, so that an interrupted copy is not taken for a picture.
        shutil.copyfile(source, target + '.part')
        os.replace(target + '.part', target)
