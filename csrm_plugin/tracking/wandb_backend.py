"""Weights & Biases as a backend of MMEngine's visualizer."""

import contextlib
import difflib
import logging
import os
import os.path as osp
import re
import tempfile
import uuid

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import MessageHub, print_log
from mmengine.registry import VISBACKENDS
from mmengine.visualization import WandbVisBackend

from csrm_plugin.tracking.connection import asked_mode, base_url, can_reach, choose_mode, flag
from csrm_plugin.tracking.scalars import as_number, own_times
from csrm_plugin.tracking.termination import exit_on_sigterm
from csrm_plugin.tracking.wandb_files import RunNote, copy_code, read_note
from csrm_plugin.utils import UserError

DEFAULT_PROJECT = 'csrm'

#: Seconds that the server gets to answer at the start, and to take what is left at the end.
START_SECONDS, FINISH_SECONDS = 30, 300

#: What `wandb.init` takes, less what the backend decides on.
INIT_KWARGS = {
    'allow_val_change',
    'anonymous',
    'config',
    'config_exclude_keys',
    'config_include_keys',
    'dir',
    'entity',
    'force',
    'fork_from',
    'group',
    'id',
    'job_type',
    'mode',
    'monitor_gym',
    'name',
    'notes',
    'project',
    'reinit',
    'resume',
    'resume_from',
    'save_code',
    'settings',
    'sync_tensorboard',
    'tags',
}

#: Checkpoints that can be kept as an artifact, with the beginning of their keys in MMEngine's message hub.
ARTIFACTS = {'best': 'best_ckpt', 'last': 'last_ckpt'}

UNCERTAIN = 255


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

    #: The backend whose run is open: there can be one in a process, and another `wandb.init` would get the same.
    _active = None

    def __init__(
        self,
        save_dir: str,
        init_kwargs: dict | None = None,
        upload_code: bool = True,
        artifact: str | None = None,
        define_metric_cfg: dict | list | None = None,
    ):
        super().__init__(save_dir, init_kwargs=dict(init_kwargs or {}), define_metric_cfg=define_metric_cfg)
        for key in set(self._init_kwargs) - INIT_KWARGS:
            near = difflib.get_close_matches(key, INIT_KWARGS, n=1)
            raise UserError(f'WSSSWandbBackend: init_kwargs has no `{key}`' + (f'; `{near[0]}`?' if near else ''))
        if artifact is not None and artifact not in ARTIFACTS:
            raise UserError(f'WSSSWandbBackend: `artifact` must be None, best or last, but is `{artifact}`')
        self._upload_code, self._artifact = upload_code, artifact
        self._reset(None)
        self._off = asked_mode(self._init_kwargs.get('mode')) == 'disabled'

    def _reset(self, config):
        """Forget the last training."""
        self._config, self._run, self._note, self._off = config, None, None, False
        self._held, self._step = -1, -1
        self._said, self._curves = set(), {}
        self._restore = lambda: None
        given = None if config is None else config.get('work_dir')
        self._work_dir = given or osp.dirname(osp.dirname(osp.abspath(self._save_dir)))

    @property
    def experiment(self):
        """The module ``wandb`` with a run that has begun; None where nothing is tracked."""
        return self._wandb if self._begin() else None

    def add_config(self, config, **kwargs) -> None:
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
            self._finish(1)
        self._reset(config)
        self._off = asked_mode(self._init_kwargs.get('mode')) == 'disabled'

    def add_graph(self, model, data_batch, **kwargs) -> None:
        """Nothing: the graph is not recorded."""

    def add_scalar(self, name: str, value, step: int = 0, **kwargs) -> None:
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
            with self._guard('a picture was not kept'):
                self._send({name: self._wandb.Image(image)}, step)

    def add_segmentation(
        self, name: str, picture: np.ndarray, masks: dict, classes, step: int = 0, caption: str = ''
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
        labels = {**dict(enumerate(classes)), UNCERTAIN: 'uncertain'}
        overlays = {
            key.replace(' ', '_'): {'mask_data': np.asarray(mask, dtype=np.uint8), 'class_labels': labels}
            for key, mask in masks.items()
        }
        with self._guard('a picture was not kept'):
            self._send({name: self._wandb.Image(picture, masks=overlays, caption=caption or None)}, step)

    def add_curve(self, name: str, x_name: str, xs, y_name: str, ys, step: int = 0) -> None:
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
            with self._guard('a curve was not kept'):
                self._send({name: self._wandb.Image(_draw(x_name, xs, y_name, ys))}, step)
                self._curves[name] = (x_name, list(map(float, xs)), y_name, list(map(float, ys)))

    def add_summary(self, summary: dict) -> None:
        """Set values of the run's summary, which tables show and sort by; text is allowed."""
        if self._begin():
            known = {key: value if isinstance(value, str) else as_number(value) for key, value in summary.items()}
            with self._guard('the summary was not kept'):
                self._run.summary.update({key: value for key, value in known.items() if value is not None})

    def close(self) -> None:
        """End the run as a success. A crash never comes here: then W&B's own exit hook marks the run as failed."""
        if self._run is None:
            return
        if self._curves or self._artifact:
            self._close_with_files()
        self._finish(0)

    # The beginning and the end of a run.
    def _init_env(self) -> None:
        """Begin; for MMEngine, which may ask for it."""
        self._begin()

    def _begin(self) -> bool:
        """Begin the run if it has not begun; gives whether there is one."""
        if self._run is not None or self._off:
            return self._run is not None
        self._off = True  # until all went well
        if not is_main_process():
            return False
        mode, reason = choose_mode(self._init_kwargs.get('mode'))
        if mode == 'disabled':
            return False
        # W&B's reports about its own errors need the network, and complain on the terminal where they find none.
        os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')
        try:
            import wandb

            wandb.Settings  # noqa: B018  (a folder named wandb can be imported as well)
        except (ImportError, AttributeError):
            print_log('W&B is not installed (`pip install wandb`), so that this run is not tracked by it.', 'current')
            return False
        self._wandb = wandb
        self._note = read_note(self._work_dir) if self._resumes() else None
        if mode == 'online' and self._note is not None and self._note.not_sent(self._work_dir):
            mode, reason = 'offline', 'its earlier part has not been sent yet'
        self._run = self._open(mode, reason)
        self._off = self._run is None
        return self._run is not None

    def _resumes(self) -> bool:
        """Whether the training goes on with an earlier one."""
        return bool(self._config is not None and self._config.get('resume'))

    def _open(self, mode, reason):
        """Start the client, offline if the server does not want us; gives the run, or None."""
        wandb = self._wandb
        if WSSSWandbBackend._active is not None:  # a training before this one that did not end well
            WSSSWandbBackend._active._finish(1)
        if os.environ.get('WANDB_SILENT') is None:
            with contextlib.suppress(Exception):
                wandb.setup(wandb.Settings(silent=True))
        run = None
        if mode == 'online':
            try:
                run = self._start(mode)
            except Exception as error:
                mode, reason = 'offline', f'the server did not take it ({_first_line(error)})'
        if run is None:
            with self._guard('this run is not tracked'):
                run = self._start(mode)
        if run is None:
            return None
        WSSSWandbBackend._active = self
        self._restore = exit_on_sigterm()
        with self._guard('the beginning of the run was not recorded'):
            self._record_start(run, mode)
            self._tell_where(run, mode, reason)
        return run

    def _start(self, mode):
        """`wandb.init`."""
        given = {key: value for key, value in self._init_kwargs.items() if value is not None}
        environ = os.environ
        sweep = bool(environ.get('WANDB_SWEEP_ID'))
        name = osp.basename(osp.abspath(self._work_dir))
        defaults = {
            'project': None if environ.get('WANDB_PROJECT') else DEFAULT_PROJECT,
            'job_type': None if environ.get('WANDB_JOB_TYPE') else 'train',
            'name': None if environ.get('WANDB_NAME') or sweep else name,  # an agent's runs get names of their own
            'dir': environ.get('WANDB_DIR') or self._folder(),
            **self._identity(mode),
        }
        given = {**defaults, **given, 'mode': mode, 'settings': self._settings(given.get('settings'))}
        if isinstance(given.get('tags'), str):
            given['tags'] = [given['tags']]
        os.makedirs(given['dir'], exist_ok=True)
        return self._wandb.init(**{key: value for key, value in given.items() if value is not None})

    def _identity(self, mode) -> dict:
        """``id`` and ``resume``: a resumed run goes on, any other is new; under an agent it is the agent's."""
        if os.environ.get('WANDB_SWEEP_ID') or os.environ.get('WANDB_RUN_ID') or self._init_kwargs.get('id'):
            return {}
        run_id = self._note.id if self._note is not None else uuid.uuid4().hex[:8]
        # Offline there is nobody to ask for the run's past, which the client would remark on.
        return {'id': run_id, 'resume': 'allow' if mode == 'online' and self._note is not None else None}

    def _settings(self, given):
        """Settings of the client, as far as the installed version knows them."""
        wanted = {
            'silent': None if os.environ.get('WANDB_SILENT') else True,
            'init_timeout': None if os.environ.get('WANDB_INIT_TIMEOUT') else START_SECONDS,
            'finish_timeout': None if os.environ.get('WANDB_FINISH_TIMEOUT') else FINISH_SECONDS,
            'finish_timeout_raises': True,
        }
        known = self._wandb.Settings()
        usable = {key: value for key, value in wanted.items() if value is not None and hasattr(known, key)}
        return self._wandb.Settings(**{**usable, **(given or {})})

    def _folder(self) -> str:
        """Where W&B's files go: the folder of this start in the work directory."""
        folder = osp.dirname(osp.abspath(self._save_dir))
        work_dir = osp.abspath(self._work_dir)
        return folder if osp.commonpath([folder, work_dir]) == work_dir else work_dir

    def _record_start(self, run, mode):
        """Note the run's id, say what the charts' x-axis is, and record config and code."""
        note, self._note = self._note, RunNote(run.id)
        if note is not None and note.id == run.id:
            self._note = note
        starting = (getattr(run, 'starting_step', 0) or 0) - 1
        self._held = starting if mode == 'online' else self._note.step
        self._note.add_part(osp.abspath(self._work_dir), osp.dirname(run.dir), mode)
        self._note.save(self._work_dir)
        run.define_metric('iteration')
        run.define_metric('*', step_metric='iteration')
        self._define_metrics(run)
        self._record_config(run)
        if self._upload_code and not flag('WANDB_DISABLE_CODE') and not getattr(run.settings, 'disable_code', False):
            with self._guard('the code was not kept'), tempfile.TemporaryDirectory() as folder:
                copy_code(folder)
                run.log_code(
                    folder,
                    name='source-csrm_plugin',
                    include_fn=lambda path, root: True,
                    exclude_fn=lambda path, root: False,
                )

    def _define_metrics(self, run):
        """Apply ``define_metric_cfg``."""
        given = self._define_metric_cfg or []
        if isinstance(given, dict):
            given = [dict(name=name, summary=summary) for name, summary in given.items()]
        for settings in given:
            run.define_metric(**settings)

    def _record_config(self, run):
        """Record the config flat, less what a sweep has set: that is recorded already, and locked."""
        if self._config is None:
            return
        from csrm_plugin.config.provenance import config_settings  # imports the engine, whose hooks import this package

        flat = config_settings(self._config)
        flat['load_from'] = self._config.get('load_from')
        flat['work_dir'] = self._work_dir
        if getattr(self._config, 'filename', None):
            flat['config'] = osp.basename(self._config.filename)
        locked = set(run.config.keys()) if getattr(run, 'sweep_id', None) else set()
        run.config.update({key: value for key, value in flat.items() if key not in locked}, allow_val_change=True)

    def _tell_where(self, run, mode, reason):
        """One line on where the run is."""
        if mode == 'online':
            print_log(f'W&B: run {run.name} at {run.url}', 'current')
            return
        folder = osp.dirname(run.dir)
        parts = [folder]
        if self._note is not None:
            parts = [part for part in self._note.not_sent(self._work_dir) if not osp.samefile(part, folder)] + parts
        command = ' '.join(['wandb sync', *map(_shown, parts)])
        print_log(f'W&B: {reason}, so the run is kept in {_shown(folder)}; `{command}` sends it later.', 'current')

    def _close_with_files(self):
        """Send charts and checkpoint, for which the client waits for its server."""
        if not self._run.offline and not can_reach(base_url()):
            self._say('the server cannot be reached any more: charts of curves and checkpoint are not kept', 'close')
            return
        with self._guard('the curves were not kept as charts'):
            for name, curve in self._curves.items():
                self._run.log({f'{name}_chart': self._chart(name, *curve)}, step=max(self._step, 0))
        if self._artifact is not None:
            with self._guard('the checkpoint was not kept'):
                self._keep_checkpoint()

    def _keep_checkpoint(self):
        """Keep the checkpoint that was asked for as an artifact."""
        known = MessageHub.get_current_instance().runtime_info
        paths = [path for key, path in known.items() if key.startswith(ARTIFACTS[self._artifact]) and path]
        paths = [path for path in paths if osp.isfile(path)]
        if not paths:
            raise UserError(f'there is no {self._artifact} checkpoint')
        name = re.sub(r'[^\w.-]', '_', osp.basename(osp.abspath(self._work_dir)))
        artifact = self._wandb.Artifact(f'{name}-{self._artifact}', type='model', metadata={'iteration': self._step})
        for path in paths:
            # As it is: a copy of each checkpoint in the home folder would be a surprise.
            artifact.add_file(path, policy='immutable')
        self._run.log_artifact(artifact, aliases=[self._artifact])

    def _finish(self, exit_code):
        """End the run; what could not be sent in time stays on disk."""
        run, self._run, self._off = self._run, None, True
        WSSSWandbBackend._active = None
        folder = _shown(osp.dirname(run.dir))
        try:
            run.finish(exit_code=exit_code)
            if self._note is not None and self._note.parts:
                self._note.parts[-1]['ended'] = True
                self._note.save(self._work_dir)
        except Exception as error:
            print_log(
                f'W&B: not everything was sent ({_first_line(error)}); it is kept in {folder}, and '
                f'`wandb sync --include-online {folder}` sends it later.',
                'current',
            )
        self._restore()

    # Rows.
    def _log(self, row, step):
        """Send the numbers of a row."""
        numbers = {}
        for key, value in row.items():
            numbers[key] = as_number(value)
            if numbers[key] is None:
                del numbers[key]
                self._say(f'`{key}` is no number ({type(value).__name__}), so that it is not sent', key)
        if numbers and self._takes(next(iter(numbers)), step):
            with self._guard('a row was not kept'):
                self._send(numbers, step)

    def _takes(self, name, step) -> bool:
        """Whether something for this iteration can be sent; begins the run."""
        if not self._begin():
            return False
        if step <= self._held:
            self._say(
                f'the run holds the iterations up to {self._held} already, which cannot be written again; sending goes '
                'on after them',
                'held',
            )
            return False
        if step < self._step:
            self._say(f'`{name}` came for iteration {step} after {self._step}; it cannot go back and is not sent', name)
            return False
        return True

    def _send(self, data, step):
        """Send what belongs to an iteration; W&B makes one row of all that is sent for it."""
        self._run.log({**data, 'iteration': int(step)}, step=int(step))
        if step > self._step:
            self._step = int(step)
            if self._note is not None:
                self._note.step = max(self._note.step, self._step)
                self._note.save(self._work_dir)

    def _chart(self, name, x_name, xs, y_name, ys):
        """A chart of W&B with the numbers of a curve."""
        table = self._wandb.Table(data=[list(point) for point in zip(xs, ys)], columns=[x_name, y_name])
        return self._wandb.plot.line(table, x_name, y_name, title=name)

    @contextlib.contextmanager
    def _guard(self, what):
        """Let no trouble with W&B end a training: say it once."""
        try:
            yield
        except Exception as error:
            self._say(f'{what}: {_first_line(error)}; the training goes on', what, logging.WARNING)

    def _say(self, text, key, level=logging.INFO):
        """Say something in the log, once."""
        if key not in self._said:
            self._said.add(key)
            print_log(f'W&B: {text}.', 'current', level)


def _first_line(error) -> str:
    """What an error says, in at most 120 characters."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith('<')]  # some servers answer with a page
    return lines[0][:120].rstrip('.') if lines else type(error).__name__


def _shown(path) -> str:
    """A path relative to the current folder, where that is shorter."""
    return min(osp.abspath(path), osp.relpath(path), key=len)


def _draw(x_name, xs, y_name, ys) -> np.ndarray:
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
