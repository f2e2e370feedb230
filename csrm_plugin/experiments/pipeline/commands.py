"""Run the commands of a stage: shared out to several GPUs where the tool can be, with their output in log files.

A stage says what one process would do. With several GPUs, trainings and tests become one command of torchrun, and tools
that know ``--shard`` one command for each GPU, at the same time.
"""

import json
import os
import os.path as osp
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from csrm_plugin.experiments.children import (
    Step,
    job_environment,
    new_log,
    project_path,
    run_jobs,
    torchrun,
    visible_gpus,
)
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.processes import available_cores

#: Tools that several processes can share out among themselves as one distributed run.
DISTRIBUTED = ('train', 'test')
#: Tools with ``--shard``, to the most processes of their own that they would start.
SHARDED = {'pseudo_labels': 8, 'refine_sam': 8, 'sam_masks': 8}


def check_gpus(gpus: int) -> None:
    """Raise ``UserError`` if there are not so many GPUs; on a machine without any, processes share its cores."""
    if gpus < 1:
        raise UserError(f'--gpus must be at least 1, but is {gpus}')
    visible = visible_gpus() if gpus > 1 else []
    if visible and gpus > len(visible):
        raise UserError(f'--gpus {gpus}, but only {len(visible)} can be used here: {", ".join(visible)}')


def tool_of(command: Sequence[str]) -> str:
    """Name of the tool that a command calls: ``train``."""
    return next((osp.splitext(osp.basename(part))[0] for part in command if part.startswith('tools/')), 'command')


def shared_out(command: list[str], gpus: int, cores: int | None = None) -> list[list[str]]:
    """The commands that do the work of one with several GPUs, all at the same time.

    Args:
        command (list[str]): A tool with its arguments, as for one process.
        gpus (int): Number of GPUs.
        cores (int, optional): That this process may use; found out by default.
    """
    tool = tool_of(command)
    if gpus == 1:
        return [command]
    if tool in DISTRIBUTED:
        return [[*torchrun(gpus), *command, '--launcher', 'pytorch']]
    if tool not in SHARDED:
        return [command]
    extra = _workers(tool, command, (cores or available_cores()) // gpus)
    return [[*_with_json_of(command, index, gpus), *extra, '--shard', f'{index}/{gpus}'] for index in range(gpus)]


def run_command(
    command: list[str], run: Run, stage: str, number: int, total: int, console: Console
) -> tuple[list[list[str]], float]:
    """Run one command of a stage, shared out to the run's GPUs.

    Args:
        command (list[str]): As for one process.
        run (csrm_plugin.experiments.pipeline.run.Run): The run.
        stage (str): Name of the stage.
        number (int): Which of the stage's commands, from 1.
        total (int): How many it has.
        console (rich.console.Console): Where to print.

    Returns:
        tuple[list[list[str]], float]: The commands that ran, and the peak memory in MiB of their largest process.

    Raises:
        UserError: If one fails; the others are ended.
    """
    parts = shared_out(command, run.gpus)
    steps = []
    for index, part in enumerate(parts):
        name, stem = tool_of(command), f'{number:02d}_{tool_of(command)}'
        if len(parts) > 1:
            name, stem = f'{name}, shard {index}/{len(parts)}', f'{stem}_{index}of{len(parts)}'
        log = new_log(osp.join(run.folder_of(stage), 'logs', f'{stem}.log'))
        steps.append(Step(f'stage {stage}', name, _arguments(part, run), log, project_path(run.root)))
    ended = run_jobs(
        [[step] for step in steps], len(steps), _environment_of(len(steps)) if len(steps) > 1 else None, console
    )
    if len(parts) > 1:
        merge_json(command, len(parts))
    what = f'{number}/{total} {tool_of(command)}' + (f' in {len(parts)} shards' if len(parts) > 1 else '')
    console.print(f'     {what}: {minutes(max(step.seconds for step in ended))}', highlight=False, style='dim')
    return parts, max(step.peak_mib for step in ended)


def merge_json(command: list[str], shards: int) -> None:
    """Write the ``--json`` of a command from those of its shards.

    Numbers add up, lists are joined; the shards worked at the same time, so ``seconds`` are those of the slowest.
    """
    if '--json' not in command:
        return
    reports = []
    for index in range(shards):
        with open(_json_of(_json_path(command), index, shards)) as file:
            reports.append(json.load(file))
    write_json(_json_path(command), merged(reports))


def merged(reports: Sequence[dict]) -> dict:
    """What the shards did as one, from the reports of ``tools/pseudo_labels.py``."""
    result = dict(reports[0])
    for key, first in reports[0].items():
        values = [report[key] for report in reports]
        if isinstance(first, list):
            result[key] = [item for value in values for item in value]
        elif isinstance(first, (int, float)) and not isinstance(first, bool):
            result[key] = sum(values)
    result['seconds'] = max(report['seconds'] for report in reports)
    result['images_per_second'] = round(result['made'] / result['seconds'], 3) if result['seconds'] else None
    return result


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.1f} min'


def _environment_of(shards: int) -> Callable[[int], dict]:
    gpus, cores = visible_gpus(), available_cores()
    return lambda place: job_environment(place, shards, 1, gpus, cores, os.environ)


def _arguments(command: list[str], run: Run) -> list[str]:
    """A command with the paths of the project."""
    arguments = [osp.join(run.root, part) if part.startswith('tools/') else part for part in command]
    return [sys.executable, *(run.config_path(part) if part.startswith('mmcfg/') else part for part in arguments)]


def _workers(tool: str, command: list[str], cores: int) -> list[str]:
    """``--workers`` for a shard with a share of the cores, where nobody has set it."""
    if '--workers' in command or (tool == 'sam_masks' and 'superpixels' not in command):
        return []
    beside = 1 if tool == 'pseudo_labels' else 0  # the process that predicts
    return ['--workers', str(min(max(cores - beside, 1), SHARDED[tool]))]


def _json_path(command: list[str]) -> str:
    return command[command.index('--json') + 1]


def _json_of(path: str, index: int, shards: int) -> str:
    stem, extension = osp.splitext(path)
    return f'{stem}_{index}of{shards}{extension}'


def _with_json_of(command: list[str], index: int, shards: int) -> list[str]:
    """A command whose ``--json`` is that of one shard."""
    if '--json' not in command:
        return command
    path = _json_path(command)
    return [_json_of(path, index, shards) if part == path else part for part in command]
