"""The record of a training run: what it was, what it scored at each validation, and what it cost, as JSON files.

They lie in ``record/`` of the work directory, beside MMEngine's own logs, and go on with the run after a resume.
:class:`csrm_plugin.engine.hooks.RunRecordHook` writes them; reports, sweeps and repetitions read them here.
"""

import glob
import json
import os
import os.path as osp
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.label_sources import NOTED_SOURCES, describe_source

FOLDER = 'record'
RUN_FILE = 'run.json'
PICTURES_FILE = 'pictures.json'

#: The scores that tables and summaries show, in percent.
SCORES = ('pseudo/mIoU', 'cam/mIoU', 'seg/mIoU', 'cls/mAP', 'affinity/AUC', 'mIoU')

_SAMPLE = re.compile(r'^sample_(?P<id>.+)_(?P<step>\d+)\.png$')


@dataclass
class RunRecord:
    """What is known of a run.

    Attributes:
        folder (str): The work directory.
        run (dict): ``run.json``; empty where the run left no record.
        train (list[dict]): Logged training lines, ascending in ``step`` (the iteration).
        val (list[dict]): Logged validation lines, likewise.
        validations (list[dict]): Validation reports with per-class scores, context and per-picture scores.
        pictures (dict | None): The best, median and worst pictures of the last validation.
        samples (dict[str, list[tuple[int, str]]]): Iteration and path of the drawings of each fixed picture.
    """

    folder: str
    run: dict = field(default_factory=dict)
    train: list = field(default_factory=list)
    val: list = field(default_factory=list)
    validations: list = field(default_factory=list)
    pictures: dict | None = None
    samples: dict = field(default_factory=dict)


def record_path(work_dir: str | os.PathLike, *names: str) -> str:
    """Path of a file in the record of a work directory."""
    return osp.join(work_dir, FOLDER, *names)


def read_json(path: str | os.PathLike, mend: str = 'run the training again') -> dict:
    """Content of a JSON file.

    Args:
        path (str | os.PathLike): The file.
        mend (str): What makes it anew, for the message.

    Raises:
        MissingFileError: If there is no such file.
        UserError: If it is no JSON object.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)  # ValueError: also what is no UTF-8
    except FileNotFoundError as error:
        raise MissingFileError(f'`{path}` does not exist') from error
    except ValueError as error:
        raise UserError(f'`{path}` is no JSON ({error}); remove it, or {mend}') from error
    if not isinstance(content, dict):
        raise UserError(f'`{path}` must hold a JSON object; remove it, or {mend}')
    return content


def is_run(folder: str | os.PathLike) -> bool:
    """Whether a folder is the work directory of a training: it has a record or MMEngine's scalars."""
    return osp.isfile(record_path(folder, RUN_FILE)) or bool(_scalar_files(folder))


def read_run(folder: str | os.PathLike) -> RunRecord:
    """Everything that a work directory tells about its run.

    Args:
        folder (str): The work directory.

    Raises:
        MissingFileError: If there is no such folder, or no training ran in it.
        UserError: If a file of the record is broken.
    """
    if not osp.isdir(folder):
        raise MissingFileError(f'work directory `{folder}` does not exist')
    if not is_run(folder):
        raise MissingFileError(f'`{folder}` is no work directory of a training: it has neither {FOLDER}/ nor scalars')
    record = RunRecord(folder)
    if osp.isfile(record_path(folder, RUN_FILE)):
        record.run = read_json(record_path(folder, RUN_FILE))
    log_dirs = record.run.get('log_dirs')
    if log_dirs is not None and not (
        isinstance(log_dirs, list) and all(isinstance(name, str) and osp.basename(name) == name for name in log_dirs)
    ):
        raise UserError(f'`{record_path(folder, RUN_FILE)}`: `log_dirs` is no list of folder names')
    record.train, record.val = read_scalars(_scalar_files(folder, log_dirs))
    for path in sorted(glob.glob(record_path(glob.escape(folder), 'validation_*.json'))):
        report = read_json(path)
        if not isinstance(report.get('metrics'), dict) or not isinstance(report.get('iteration'), int):
            raise UserError(f'`{path}` is no report of a validation; remove it, or run the training again')
        record.validations.append(report)
    if osp.isfile(record_path(folder, PICTURES_FILE)):
        record.pictures = read_json(record_path(folder, PICTURES_FILE))
    record.samples = _samples(folder, log_dirs)
    return record


def update_cost(work_dir: str | os.PathLike) -> dict:
    """What one update of a training's weights cost: a score is worth nothing without it.

    Args:
        work_dir (str): Of the training.

    Returns:
        dict: ``seconds`` (mean since the start or the last resume, with loading) and ``pictures`` of one
        update, on all processes and with accumulated gradients; empty where it was not recorded.
    """
    path = record_path(work_dir, RUN_FILE)
    run = read_json(path) if osp.isfile(path) else {}
    cost, settings = run.get('cost') or {}, run.get('settings') or {}
    batch, steps = settings.get('train_dataloader.batch_size'), settings.get('optim_wrapper.accumulative_counts', 1)
    rate, processes = cost.get('images_per_second'), cost.get('processes')
    if not all(isinstance(value, (int, float)) and value > 0 for value in (rate, processes, batch, steps)):
        return {}
    pictures = batch * processes * steps
    return dict(seconds=round(pictures / rate, 3), pictures=pictures)


def read_scalars(paths: Sequence[str]) -> tuple[list[dict], list[dict]]:
    """Training and validation lines of ``scalars.json`` files, in the order in which they were written.

    A resumed run logs some iterations again; what it logs replaces what an earlier part logged from there on. The
    last line may be half-written while the run goes on, and is left out then.

    Args:
        paths (Sequence[str]): Oldest first.

    Returns:
        tuple[list[dict], list[dict]]: Training lines and validation lines, ascending in ``step``.
    """
    train, val = {}, {}
    for path in paths:
        lines = _json_lines(path)
        if lines:
            first = lines[0]['step']
            train = {step: line for step, line in train.items() if step < first}
            val = {step: line for step, line in val.items() if step < first}
        for line in lines:
            # Validation lines have neither a learning rate nor the number of the batch.
            (train if 'iter' in line or 'lr' in line else val)[line['step']] = line
    return [train[step] for step in sorted(train)], [val[step] for step in sorted(val)]


def full_name(metric: str, report: dict) -> str:
    """The name of a score with what it stands on, as in ``seg/mIoU (val, scale 1, no flip, no CRF, teacher)``.

    It is the same at each validation of a training, as long as the same network predicts.

    Args:
        metric (str): A key of ``report['metrics']``.
        report (dict): Of a validation: ``context`` and ``metrics``.
    """
    context, metrics = report.get('context', {}), report.get('metrics', {})
    parts = [str(context['split'])] if context.get('split') else []
    part = metric.split('/')[0]
    if part == 'cam' and metrics.get('cam/threshold') is not None:
        # Not which one: the name stays the same through a training.
        parts.append('at the best threshold, chosen with the masks')
    if part == 'pseudo' and context.get('pseudo_label'):
        source, threshold = context['pseudo_label'].get('source'), context['pseudo_label'].get('threshold')
        parts.append(f'from the {describe_source(source, threshold)}')
    if part == 'affinity':
        parts.append('pairs of positions, against the masks')
    if has_note(part, context):
        parts.append(context['segmentation'])
    if 'scales' in context:
        scales = ' '.join(f'{scale:g}' for scale in context['scales'])
        parts.append(f'scale{"s" if len(context["scales"]) > 1 else ""} {scales}')
        parts.append('flip' if context.get('flip') else 'no flip')
        if part != 'affinity':
            parts.append('CRF' if context.get('crf') else 'no CRF')
    if context.get('weights'):
        parts.append(str(context['weights']))
    return f'{metric} ({", ".join(parts)})' if parts else metric


def has_note(part: str, context: dict) -> bool:
    """Whether scores of a part (``cam``, ``pseudo``, ``seg``, ...) stand on what the model says of its segmentation."""
    source = (context.get('pseudo_label') or {}).get('source') if part == 'pseudo' else part
    return bool(context.get('segmentation')) and source in NOTED_SOURCES


def _scalar_files(folder, log_dirs=None) -> list[str]:
    """``scalars.json`` of each start of the run, oldest first."""
    if log_dirs is None:
        return sorted(glob.glob(osp.join(glob.escape(folder), '*', 'vis_data', 'scalars.json')))
    paths = [osp.join(folder, name, 'vis_data', 'scalars.json') for name in log_dirs]
    return [path for path in paths if osp.isfile(path)]


def _json_lines(path) -> list[dict]:
    with open(path, encoding='utf-8', errors='replace') as file:
        text = file.read().splitlines()
    lines = []
    for number, line in enumerate(text, start=1):
        try:
            content = json.loads(line)
        except ValueError as error:
            if number == len(text):
                break
            raise UserError(f'line {number} of `{path}` is no JSON; remove that line') from error
        if isinstance(content, dict) and 'step' in content:
            lines.append(content)
    return lines


def _samples(folder, log_dirs) -> dict:
    """The drawings of the fixed pictures, by picture and iteration; a later start of the run replaces an earlier."""
    if log_dirs is None:
        log_dirs = sorted(osp.basename(path) for path in glob.glob(osp.join(glob.escape(folder), '*')))
    found = {}
    for name in log_dirs:
        images = osp.join(folder, name, 'vis_data', 'vis_image')
        for picture in sorted(os.listdir(images)) if osp.isdir(images) else ():
            match = _SAMPLE.match(picture)
            if match:
                found.setdefault(match['id'], {})[int(match['step'])] = osp.join(images, picture)
    return {sample: sorted(frames.items()) for sample, frames in sorted(found.items())}
