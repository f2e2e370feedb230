"""Folders of stages: who may work in a run, and what becomes of what is in the way. No training is ever deleted."""

import contextlib
import fcntl
import json
import os
import os.path as osp
import shutil
from collections.abc import Iterator

from csrm_plugin.experiments.pipeline.cards import CARD
from csrm_plugin.experiments.pipeline.keys import Reason, changed_words
from csrm_plugin.experiments.pipeline.stages import Stage
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.set_aside import set_aside, set_aside_of

#: What a stage that has begun leaves in its folder: what it stands on.
CLAIM = 'key'
#: What a stage has made so far if there is nothing else in its folder: nothing.
NOTHING_MADE = {CLAIM, 'logs'}


def make_way(stage: Stage, parts: dict, reason: Reason, fresh: bool = False) -> str | None:
    """Make the stage's folder ready: never mix the files of two settings, nor of an interrupted training.

    What was interrupted goes on where that is exact, or where the pipeline asks for it. Anything else that is in the
    way is set aside, finished or not; only label maps that were interrupted, and folders in which nothing was made,
    are removed. Label maps that were finished are kept until :func:`remove_replaced`.

    Args:
        stage (Stage): The stage.
        parts (dict): What it stands on now.
        reason (Reason): Why it runs.
        fresh (bool): Whether nothing of an earlier call is kept.

    Returns:
        str | None: Where the folder was set aside, if it was.
    """
    folder, place = stage.folder, None
    if osp.isfile(osp.join(folder, CARD)):
        place = set_aside(folder, reason.short)
    elif osp.isdir(folder):
        claimed = _claimed(folder)
        if fresh or claimed is None or changed_words(stage, claimed, parts) or not may_go_on(stage):
            if (stage.trains or holds_training(folder)) and set(os.listdir(folder)) - NOTHING_MADE:
                changed = changed_words(stage, claimed, parts) if claimed else ''
                place = set_aside(folder, reason.short if fresh else f'not finished {changed}')
            else:
                shutil.rmtree(folder)
    os.makedirs(folder, exist_ok=True)
    write_json(osp.join(folder, CLAIM), parts)
    return place


def remove_replaced(stage: Stage) -> None:
    """Remove what was set aside of a stage that can make it again in minutes: nothing that a training made."""
    if not stage.trains:
        for place in set_aside_of(stage.folder):
            if not holds_training(place):
                shutil.rmtree(place, ignore_errors=True)


def holds_training(folder: str) -> bool:
    """Whether there is a checkpoint in a folder: its stage may have been of another kind when it was made."""
    return any(name.endswith('.pth') for _, _, names in os.walk(folder) for name in names)


def may_go_on(stage: Stage) -> bool:
    """Whether files of an interrupted call of the same stage are kept: label maps always, trainings if so asked."""
    return stage.run.recipe.resume or not stage.trains


@contextlib.contextmanager
def only_one(folder: str) -> Iterator[None]:
    """Keep a second process out of a folder; the lock ends with the process, however that ends.

    Raises:
        UserError: If another one is at work there.
    """
    with open(osp.join(folder, '.lock'), 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f'another process is at work in `{folder}`; wait for it, or give --work-dir') from error
        yield


def _claimed(folder: str) -> dict | None:
    """What the stage that was interrupted in a folder stood on; None where that cannot be told."""
    try:
        with open(osp.join(folder, CLAIM)) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
