"""What a run of W&B holds beside its rows: config, code, definitions of its metrics, curves and a checkpoint."""

import os.path as osp
import re
import tempfile
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub

from csrm_plugin.config.provenance import config_settings
from csrm_plugin.tracking.connection import flag
from csrm_plugin.tracking.wandb_files import copy_code
from csrm_plugin.utils import UserError

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

#: Checkpoints that can be kept as an artifact, with the beginning of their keys in MMEngine's message hub.
ARTIFACTS = {'best': 'best_ckpt', 'last': 'last_ckpt'}


def define_metrics(run: 'Run', given: dict | Sequence[dict] | None) -> None:
    """Make the iteration the x-axis of all charts, and apply ``define_metric_cfg``.

    Args:
        run (wandb.Run): The run.
        given (dict | Sequence[dict], optional): As in MMEngine's backend: name to summary, or arguments of
            ``define_metric``.
    """
    run.define_metric('iteration')
    run.define_metric('*', step_metric='iteration')
    if isinstance(given, dict):
        given = [dict(name=name, summary=summary) for name, summary in given.items()]
    for settings in given or ():
        run.define_metric(**settings)


def record_config(run: 'Run', config: Config, work_dir: str) -> None:
    """Record a config flat, less what a sweep has set: that is recorded already, and locked.

    Args:
        run (wandb.Run): The run.
        config (mmengine.config.Config): Resolved.
        work_dir (str): Of the training.
    """
    flat = config_settings(config)
    flat['load_from'] = config.get('load_from')
    flat['work_dir'] = work_dir
    if getattr(config, 'filename', None):
        flat['config'] = osp.basename(config.filename)
    locked = set(run.config.keys()) if getattr(run, 'sweep_id', None) else set()
    run.config.update({key: value for key, value in flat.items() if key not in locked}, allow_val_change=True)


def record_code(run: 'Run') -> None:
    """Keep the project's own code with the run, unless ``WANDB_DISABLE_CODE`` or its settings forbid it."""
    if flag('WANDB_DISABLE_CODE') or getattr(run.settings, 'disable_code', False):
        return
    with tempfile.TemporaryDirectory() as folder:
        copy_code(folder)
        run.log_code(
            folder,
            name='source-csrm_plugin',
            include_fn=lambda path, root: True,
            exclude_fn=lambda path, root: False,
        )


def keep_checkpoint(wandb: ModuleType, run: 'Run', which: str, work_dir: str, step: int) -> None:
    """Keep a checkpoint as an artifact.

    Args:
        wandb (ModuleType): The client.
        run (wandb.Run): The run.
        which (str): One of :data:`ARTIFACTS`.
        work_dir (str): Of the training; its name is that of the artifact.
        step (int): The iteration, for the artifact's metadata.

    Raises:
        UserError: If there is no such checkpoint.
    """
    known = MessageHub.get_current_instance().runtime_info
    paths = [path for key, path in known.items() if key.startswith(ARTIFACTS[which]) and path]
    paths = [path for path in paths if osp.isfile(path)]
    if not paths:
        raise UserError(f'there is no {which} checkpoint')
    name = re.sub(r'[^\w.-]', '_', osp.basename(osp.abspath(work_dir)))
    artifact = wandb.Artifact(f'{name}-{which}', type='model', metadata={'iteration': step})
    for path in paths:
        # As it is: a copy of each checkpoint in the home folder would be a surprise.
        artifact.add_file(path, policy='immutable')
    run.log_artifact(artifact, aliases=[which])


def curve_chart(wandb: ModuleType, name: str, x_name: str, xs: Sequence, y_name: str, ys: Sequence) -> object:
    """A chart of W&B with the numbers of a curve."""
    table = wandb.Table(data=[list(point) for point in zip(xs, ys)], columns=[x_name, y_name])
    return wandb.plot.line(table, x_name, y_name, title=name)


def curve_picture(x_name: str, xs: Sequence, y_name: str, ys: Sequence) -> np.ndarray:
    """A curve as a picture: (H, W, 3), uint8, RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(xs, ys, marker='.', markersize=4)
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.grid(alpha=0.3)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
