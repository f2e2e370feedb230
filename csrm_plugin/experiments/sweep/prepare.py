"""What is checked before the first trial."""

import glob
import os.path as osp

from csrm_plugin.config import provenance
from csrm_plugin.config.load import load_config
from csrm_plugin.engine.training import check_load_from
from csrm_plugin.experiments.sweep.command import Command
from csrm_plugin.experiments.sweep.definition import Sweep
from csrm_plugin.experiments.sweep.space import read_back
from csrm_plugin.experiments.sweep.study import SharedStudy
from csrm_plugin.utils import UserError


def check_settings(sweep: Sweep, command: Command) -> dict:
    """Read the config as the first trial would, so that a misspelt key or a missing file shows before anything starts.

    Returns:
        dict: What the study belongs to: the sweep file, the config with all its settings, and the fixed settings.
    """
    base = load_config(command.config, command.options)
    example = {parameter.name: parameter.example() for parameter in sweep.parameters}
    try:
        check_load_from(load_config(command.config, command.settings(example)))
        for parameter in sweep.parameters:
            for value in parameter.values if parameter.name == 'load_from' else ():
                check_load_from(load_config(command.config, {'load_from': read_back(value)}))
    except UserError as error:
        raise type(error)(f'a trial of {sweep.path} would fail: {error}') from error
    return dict(
        sweep=sweep.binding(),
        config=osp.relpath(command.config),
        cfg_options=command.options,
        settings=provenance.config_settings(base),
    )


def check_jobs(command: Command, jobs: int) -> None:
    """Raise if trials at the same time would meet at one port."""
    parts = ' '.join(command.head)
    if jobs > 1 and command.processes > 1 and '--standalone' not in parts and 'rdzv' not in parts:
        raise UserError(
            '--jobs above 1 with torchrun: add --standalone to `command`, so that each trial has its own port'
        )


def refuse_other_trials(folder: str, shared: SharedStudy) -> None:
    """Raise if a new study would write into the folders of another one."""
    there = glob.glob(osp.join(glob.escape(folder), 'trial_*'))
    if there and all(row.state == 'waiting' for row in shared.rows()):
        raise UserError(
            f'`{folder}` has trials of another study, for example {osp.basename(min(there))}; '
            'remove them, or give --work-dir'
        )
