"""What `wandb.init` is called with: the config's ``init_kwargs``, and what stands in for what they leave open."""

import difflib
import os
import os.path as osp
import uuid
from collections.abc import Mapping
from types import ModuleType

from csrm_plugin.tracking.wandb_files import RunNote
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


class InitOptions:
    """How a run is named, grouped and set up.

    W&B's environment variables stand in for what the config does not give; under an agent of W&B, name and id are the
    agent's.

    Args:
        given (Mapping): ``init_kwargs`` of the config; what is None counts as not given.

    Raises:
        UserError: If `wandb.init` takes no such argument.
    """

    def __init__(self, given: Mapping) -> None:
        for key in sorted(set(given) - INIT_KWARGS):
            near = difflib.get_close_matches(key, INIT_KWARGS, n=1)
            raise UserError(f'WSSSWandbBackend: init_kwargs has no `{key}`' + (f'; `{near[0]}`?' if near else ''))
        self._given = {key: value for key, value in given.items() if value is not None}

    @property
    def mode(self) -> str | None:
        """The mode that the config asks for."""
        return self._given.get('mode')

    def arguments(self, wandb: ModuleType, mode: str, work_dir: str, save_dir: str, note: RunNote | None) -> dict:
        """Arguments of `wandb.init`.

        Args:
            wandb (ModuleType): The client.
            mode (str): ``online`` or ``offline``.
            work_dir (str): Of the training; its name is that of the run.
            save_dir (str): Of the visualizer; W&B's files go beside it.
            note (RunNote, optional): Of the run that goes on.
        """
        environ = os.environ
        sweep = bool(environ.get('WANDB_SWEEP_ID'))
        name = osp.basename(osp.abspath(work_dir))
        defaults = {
            'project': None if environ.get('WANDB_PROJECT') else DEFAULT_PROJECT,
            'job_type': None if environ.get('WANDB_JOB_TYPE') else 'train',
            'name': None if environ.get('WANDB_NAME') or sweep else name,  # an agent's runs get names of their own
            'dir': environ.get('WANDB_DIR') or _folder(work_dir, save_dir),
            **self._identity(mode, note),
        }
        given = {**defaults, **self._given, 'mode': mode, 'settings': self._settings(wandb)}
        if isinstance(given.get('tags'), str):
            given['tags'] = [given['tags']]
        return {key: value for key, value in given.items() if value is not None}

    def _identity(self, mode, note) -> dict:
        """``id`` and ``resume``: a resumed run goes on, any other is new; under an agent it is the agent's."""
        if os.environ.get('WANDB_SWEEP_ID') or os.environ.get('WANDB_RUN_ID') or self._given.get('id'):
            return {}
        run_id = note.id if note is not None else uuid.uuid4().hex[:8]
        # Offline there is nobody to ask for the run's past, which the client would remark on.
        return {'id': run_id, 'resume': 'allow' if mode == 'online' and note is not None else None}

    def _settings(self, wandb):
        """Settings of the client, as far as the installed version knows them."""
        wanted = {
            'silent': None if os.environ.get('WANDB_SILENT') else True,
            'init_timeout': None if os.environ.get('WANDB_INIT_TIMEOUT') else START_SECONDS,
            'finish_timeout': None if os.environ.get('WANDB_FINISH_TIMEOUT') else FINISH_SECONDS,
            'finish_timeout_raises': True,
        }
        known = wandb.Settings()
        usable = {key: value for key, value in wanted.items() if value is not None and hasattr(known, key)}
        return wandb.Settings(**{**usable, **(self._given.get('settings') or {})})


def _folder(work_dir, save_dir) -> str:
    """Where W&B's files go: the folder of this start in the work directory."""
    folder, work_dir = osp.dirname(osp.abspath(save_dir)), osp.abspath(work_dir)
    return folder if osp.commonpath([folder, work_dir]) == work_dir else work_dir
