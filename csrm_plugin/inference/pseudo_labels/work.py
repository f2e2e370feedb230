"""Many pictures to their files: those that are not there yet, with inference here and files in other processes."""

import os.path as osp
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from mmengine.config import Config

from csrm_plugin.datasets.label_folder import read_label_png
from csrm_plugin.inference.finished import find_damaged, present_files
from csrm_plugin.inference.predictor import MultiScalePredictor
from csrm_plugin.inference.pseudo_labels.maps import LabelTask, cam_path, finish_label, label_path, make_task
from csrm_plugin.inference.views import view_loader, view_pipeline
from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import available_cores, run_unordered
from csrm_plugin.utils.progress import track

#: File of the pictures that did not fit into the memory in one piece.
TILED = 'tiled.txt'


@dataclass
class LabelWork:
    """Everything that turns pictures into files, but the pictures.

    Attributes:
        cfg (mmengine.config.Config): Its test pipeline reads the pictures.
        predictor (MultiScalePredictor): With the trained model.
        folders (dict[str, LabelSettings]): Folders to fill, and how; the settings differ in dCRF only.
        palette (list): K colours.
        save_cams (bool): Whether CAMs are saved in the first folder.
        workers (int | None): Processes beside the inference; None: see :func:`make_pseudo_labels`.
        check (bool): Whether files that are there already are read, and made again if they are damaged.
    """

    cfg: Config
    predictor: MultiScalePredictor
    folders: dict
    palette: list
    save_cams: bool = False
    workers: int | None = None
    check: bool = False


def label_pictures(
    infos: Sequence[dict],
    work: LabelWork,
    description: str,
    finish: Callable[[LabelTask], None] = finish_label,
    newer: bool = False,
) -> dict:
    """Predict the pictures that have no files yet, and write those.

    Args:
        infos (list[dict]): Data infos with ``img_path``, ``img_id`` and, where labels restrict, ``image_labels``.
        work (LabelWork): What to do.
        description (str): Shown beside the progress.
        finish (Callable[[LabelTask], None]): Writes the files of one picture; runs in worker processes.
        newer (bool): Whether files count as done only if they are newer than their picture.

    Returns:
        dict: ``pictures``, ``made``, ``skipped``, ``seconds``, ``images_per_second``, ``tiled`` (names of pictures
        that were cut).
    """
    begin = time.monotonic()
    workers = min(max(available_cores() - 1, 1), 8) if work.workers is None else work.workers
    todo = unfinished(infos, work, workers, newer)
    first, settings = next(iter(work.folders.items()))
    loader = view_loader(
        todo,
        view_pipeline(work.cfg.test_dataloader.dataset.pipeline, settings.scales),
        min(work.cfg.test_dataloader.get('num_workers', 0), len(todo)),
    )

    def tasks():
        """Tasks for the workers; inference happens here, between two of them."""
        for info, batch in zip(todo, loader):
            prediction = work.predictor(batch['inputs'], batch['data_samples'][0].ori_shape[:2])
            if prediction.tile is not None:
                note_tiled(first, info['img_id'], prediction.tile)
            outputs = [(label_path(folder, info['img_id']), how) for folder, how in work.folders.items()]
            yield make_task(prediction, info, outputs, work.palette, work.save_cams)

    for _ in track(run_unordered(finish, tasks(), workers), len(todo), description):
        pass
    seconds = time.monotonic() - begin
    noted = read_tiled(first)
    tiled = [info['img_id'] for info in infos if info['img_id'] in noted]
    return dict(
        pictures=len(infos),
        made=len(todo),
        skipped=len(infos) - len(todo),
        seconds=round(seconds, 1),
        images_per_second=round(len(todo) / seconds, 3),
        tiled=tiled,
    )


def unfinished(infos: Sequence[dict], work: LabelWork, workers: int = 0, newer: bool = False) -> list[dict]:
    """Pictures that lack one of their files: a label map in each of the folders, and CAMs in the first where asked.

    Args:
        infos (list[dict]): Data infos with ``img_path`` and ``img_id``.
        work (LabelWork): The folders, and whether what is in them is read.
        workers (int): Processes for the reading.
        newer (bool): See :func:`label_pictures`.
    """
    first = next(iter(work.folders))
    wanted = {
        folder: [_file_names(info['img_id'], work.save_cams and folder == first) for info in infos]
        for folder in work.folders
    }
    present = {folder: present_files(folder, chain.from_iterable(names)) for folder, names in wanted.items()}
    done = [
        all(name in present[folder] for folder, names in wanted.items() for name in names[index])
        for index in range(len(infos))
    ]
    if newer:
        for index, info in enumerate(infos):
            label = wanted[first][index][0]
            done[index] = done[index] and osp.getmtime(info['img_path']) <= present[first][label]
    damaged = set()
    if work.check:
        tasks = [
            (
                index,
                [osp.join(folder, name) for folder, names in wanted.items() for name in names[index]],
                len(work.palette),
            )
            for index, there in enumerate(done)
            if there
        ]
        damaged = {index for index, *_ in find_damaged(read_label_files, tasks, workers)}
    return [info for index, info in enumerate(infos) if not done[index] or index in damaged]


def _file_names(image_id, with_cams) -> list[str]:
    """Files of a picture, relative to the folder of the label maps: the label map first."""
    label = label_path('', image_id)
    return [label, cam_path(label)] if with_cams else [label]


def read_label_files(task: tuple[int, list[str], int]) -> str | None:
    """Read the label maps and CAMs of a picture: what is wrong with them, or None.

    Args:
        task (tuple[int, list[str], int]): Number of the picture, its files, and the number of classes K.
    """
    _, paths, num_classes = task
    for path in paths:
        try:
            if path.endswith('.png'):
                read_label_png(path, num_classes)
            else:
                # Opened here: NumPy leaves a file open that is no archive.
                with open(path, 'rb') as file, np.load(file) as saved:
                    saved['cams'], saved['classes']
        except UserError as error:
            return str(error)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            return f'CAMs `{path}` cannot be read ({error})'
    return None


def note_tiled(folder: str, image_id: str, tile: int) -> None:
    """Remember beside the labels that a picture was cut; one line each, so that calls and shards may share the file."""
    with open(osp.join(folder, TILED), 'a') as file:
        file.write(f'{image_id} {tile}\n')


def read_tiled(folder: str) -> set[str]:
    """Ids of the pictures of a folder that were cut into tiles."""
    path = osp.join(folder, TILED)
    if not osp.isfile(path):
        return set()
    with open(path) as file:
        return {line.rsplit(' ', 1)[0] for line in file}
