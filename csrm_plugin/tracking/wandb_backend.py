"""Weights & Biases as a backend of MMEngine's visualizer."""

import os.path as osp
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import VISBACKENDS
from mmengine.visualization import WandbVisBackend

from csrm_plugin.tracking.connection import asked_mode, base_url, can_reach, choose_mode
from csrm_plugin.tracking.scalars import as_number, own_times
from csrm_plugin.tracking.wandb_contents import ARTIFACTS, curve_picture
from csrm_plugin.tracking.wandb_files import read_note
from csrm_plugin.tracking.wandb_options import InitOptions
from csrm_plugin.tracking.wandb_run import OpenRun
from csrm_plugin.tracking.wandb_start import import_client, open_run, tell_where
from csrm_plugin.tracking.wandb_voice import Voice
from csrm_plugin.utils import IGNORE_INDEX, UserError


@VISBACKENDS.register_module()
class WSSSWandbBackend(WandbVisBackend):
    """Track a training with W&B, without ever asking, waiting or failing for it.

    With a key and a server that answers the run is sent while it goes on; otherwise it is written offline, and one line
    of the log says how to send it later (:mod:`csrm_plugin.tracking.connection`). Nothing is begun before there is
    something to log, so that scoring a checkpoint starts no run. Trouble with W&B is said once and costs no training.

    Every row has the iteration as W&B's step and as ``iteration``, the x-axis of all charts. The config is recorded
    flat (``model.pseudo_label.fg_threshold``). The id is kept in ``wandb_run.json`` of the work directory: a training
    that is resumed goes on with its run, one that is started anew gets a new run. W&B cannot rewrite what a run holds,
    so iterations that a resumed training repeats are not sent again. Only the main process tracks.

    Args:
        save_dir (str): Folder of the visualizer, ``WORK/TIMESTAMP/vis_data``. W&B's files go beside it, or to
            ``WANDB_DIR``.
        init_kwargs (dict, optional): Of `wandb.init`: ``project`` (default: ``WANDB_PROJECT``, else csrm), ``name``
            (default: that of the work directory), ``job_type`` (default: train), ``entity``, ``group``, ``tags``, ...
            W&B's environment variables stand in for what is not given.
        upload_code (bool): Whether to keep the project's own code with the run: ``.py``, ``.yaml`` and ``.md`` files of
            its folders, nothing else. ``WANDB_DISABLE_CODE`` turns it off too.
        artifact (str, optional): ``'best'`` or ``'last'``: the checkpoint to keep as an artifact at the end.
        define_metric_cfg (dict | list[dict], optional): As in MMEngine's backend.

    Raises:
        UserError: If ``init_kwargs``, ``artifact`` or ``WANDB_MODE`` is none that there is.
    """

    def __init__(
        self,
        save_dir: str,
        init_kwargs: dict | None = None,
        upload_code: bool = True,
        artifact: str | None = None,
        define_metric_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(save_dir, init_kwargs=dict(init_kwargs or {}), define_metric_cfg=define_metric_cfg)
        self._options = InitOptions(self._init_kwargs)
        if artifact is not None and artifact not in ARTIFACTS:
            raise UserError(f'WSSSWandbBackend: `artifact` must be None, best or last, but is `{artifact}`')
        self._upload_code, self._artifact = upload_code, artifact
        self._reset(None)
        self._off = asked_mode(self._options.mode) == 'disabled'

    def _reset(self, config):
        """Forget the last training."""
        self._config, self._run, self._off = config, None, False
        self._voice, self._curves = Voice(), {}
        given = None if config is None else config.get('work_dir')
        self._work_dir = given or osp.dirname(osp.dirname(osp.abspath(self._save_dir)))

    @property
    def experiment(self) -> ModuleType | None:
        """The module ``wandb`` with a run that has begun; None where nothing is tracked."""
        return self._wandb if self._begin() else None

    def add_config(self, config: Config, **kwargs) -> None:
        """Keep the config until the run begins.

        Args:
            config (mmengine.config.Config): Its ``work_dir`` and ``resume`` say which run this is.
            **kwargs: Not used.

        Raises:
            UserError: If the best checkpoint is asked for, but the config keeps none.
        """
        checkpoint = config.get('default_hooks', {}).get('checkpoint') or {}
        if self._artifact == 'best' and not checkpoint.get('save_best'):
            raise UserError(
                'WSSSWandbBackend: artifact=best needs default_hooks.checkpoint.save_best, for example pseudo/mIoU; '
                'set it, or artifact=last'
            )
        if self._run is not None:
            self._end(1)
        self._reset(config)
        self._off = asked_mode(self._options.mode) == 'disabled'

    def add_graph(self, model: object, data_batch: object, **kwargs) -> None:
        """Nothing: the graph is not recorded."""

    def add_scalar(self, name: str, value: object, step: int = 0, **kwargs) -> None:
        """Record a number at an iteration."""
        self._log({name: value}, step)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        """Record numbers at an iteration; what is no number is left out, which the log says."""
        self._log(own_times(scalar_dict), step)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Record a picture at an iteration.

        Args:
            name (str): The same through time, so that one can go back and forth.
            image (np.ndarray): (H, W, 3), uint8, RGB.
            step (int): The iteration.
            **kwargs: Not used.
        """
        if self._takes(name, step):
            with self._voice.guard('a picture was not kept'):
                self._run.rows.send({name: self._wandb.Image(image)}, step)

    def add_segmentation(
        self, name: str, picture: np.ndarray, masks: dict, classes: Sequence[str], step: int = 0, caption: str = ''
    ) -> None:
        """Record a picture with maps of its classes, which W&B's page lays over it.

        Args:
            name (str): The same through time.
            picture (np.ndarray): (H, W, 3), uint8, RGB.
            masks (dict[str, np.ndarray]): Maps by name, (H, W), integers; 255 is shown as ``uncertain``.
            classes (Sequence[str]): Names, background first.
            step (int): The iteration.
            caption (str): Below the picture.
        """
        if not self._takes(name, step):
            return
        labels = {**dict(enumerate(classes)), IGNORE_INDEX: 'uncertain'}
        overlays = {
            key.replace(' ', '_'): {'mask_data': np.asarray(mask, dtype=np.uint8), 'class_labels': labels}
            for key, mask in masks.items()
        }
        with self._voice.guard('a picture was not kept'):
            self._run.rows.send({name: self._wandb.Image(picture, masks=overlays, caption=caption or None)}, step)

    def add_curve(
        self, name: str, x_name: str, xs: Sequence[float], y_name: str, ys: Sequence[float], step: int = 0
    ) -> None:
        """Record a curve: a drawing at each iteration, and the last one as a chart with its numbers.

        W&B asks its server before it takes a chart, so that only one is sent, at the end: a server that has gone would
        hold the training up.

        Args:
            name (str): The same through time.
            x_name (str): What is on the x-axis.
            xs (Sequence[float]): Ascending.
            y_name (str): What is on the y-axis.
            ys (Sequence[float]): As many; NaN leaves a gap.
            step (int): The iteration.
        """
        if self._takes(name, step):
            with self._voice.guard('a curve was not kept'):
                self._run.rows.send({name: self._wandb.Image(curve_picture(x_name, xs, y_name, ys))}, step)
                self._curves[name] = (x_name, list(map(float, xs)), y_name, list(map(float, ys)))

    def add_summary(self, summary: dict) -> None:
        """Set values of the run's summary, which tables show and sort by; text is allowed."""
        if self._begin():
            known = {key: value if isinstance(value, str) else as_number(value) for key, value in summary.items()}
            with self._voice.guard('the summary was not kept'):
                self._run.run.summary.update({key: value for key, value in known.items() if value is not None})

    def close(self) -> None:
        """End the run as a success. A crash never comes here: then W&B's own exit hook marks the run as failed."""
        if self._run is None or self._run.ended:
            return
        if self._curves or self._artifact:
            if self._run.run.offline or can_reach(base_url()):
                self._run.keep_files(self._curves, self._artifact)
            else:
                text = 'the server cannot be reached any more: charts of curves and checkpoint are not kept'
                self._voice.say(text, 'close')
        self._end(0)

    # The beginning and the end of a run.
    def _init_env(self) -> None:
        """Begin; for MMEngine, which may ask for it."""
        self._begin()

    def _begin(self) -> bool:
        """Begin the run if it has not begun; gives whether there is one."""
        if self._run is not None and self._run.ended:  # by a training after this one
            self._run, self._off = None, True
        if self._run is not None or self._off:
            return self._run is not None
        self._off = True  # until all went well
        if not is_main_process():
            return False
        mode, reason = choose_mode(self._options.mode)
        self._wandb = None if mode == 'disabled' else import_client()
        if self._wandb is None:
            return False
        self._run = self._open(mode, reason)
        self._off = self._run is None
        return self._run is not None

    def _resumes(self) -> bool:
        """Whether the training goes on with an earlier one."""
        return bool(self._config is not None and self._config.get('resume'))

    def _open(self, mode, reason):
        """Start the client and record how the run begins; gives the run, or None."""
        note = read_note(self._work_dir) if self._resumes() else None
        if mode == 'online' and note is not None and note.not_sent(self._work_dir):
            mode, reason = 'offline', 'its earlier part has not been sent yet'
        if OpenRun.active is not None:  # of a training before this one that did not end well
            OpenRun.active.finish(1)

        def arguments(mode):
            return self._options.arguments(self._wandb, mode, self._work_dir, self._save_dir, note)

        run, mode, reason = open_run(self._wandb, arguments, mode, reason, self._voice)
        if run is None:
            return None
        opened = OpenRun(self._wandb, run, note, self._work_dir, self._voice)
        with self._voice.guard('the beginning of the run was not recorded'):
            opened.record_start(mode, self._config, self._define_metric_cfg, self._upload_code)
            tell_where(run, mode, reason, opened.note, self._work_dir)
        return opened

    def _end(self, exit_code):
        """End the run; nothing begins after it before there is another config."""
        run, self._run, self._off = self._run, None, True
        run.finish(exit_code)

    # Rows.
    def _log(self, row, step):
        """Send the numbers of a row."""
        numbers = {}
        for key, value in row.items():
            numbers[key] = as_number(value)
            if numbers[key] is None:
                del numbers[key]
                self._voice.say(f'`{key}` is no number ({type(value).__name__}), so that it is not sent', key)
        if numbers and self._takes(next(iter(numbers)), step):
            with self._voice.guard('a row was not kept'):
                self._run.rows.send(numbers, step)

    def _takes(self, name, step) -> bool:
        """Whether something for this iteration can be sent; begins the run."""
        return self._begin() and self._run.rows.takes(name, step)
