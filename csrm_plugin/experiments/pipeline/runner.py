"""Run the stages of a pipeline: skip what is up to date, run the rest as child processes, write a card for each."""

import logging
import os
import os.path as osp
import shlex
import time
from dataclasses import dataclass, replace

from mmengine.logging import MMLogger
from rich.console import Console

from csrm_plugin.experiments.pipeline import cards
from csrm_plugin.experiments.pipeline.commands import check_gpus, shared_out
from csrm_plugin.experiments.pipeline.execution import renew_card, run_stage
from csrm_plugin.experiments.pipeline.folders import only_one
from csrm_plugin.experiments.pipeline.keys import Reason, identity, key_of, key_parts, outputs_of, reason_to_run
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.experiments.pipeline.stages import Stage
from csrm_plugin.utils import UserError


def run_pipeline(
    name: str,
    root: str,
    console: Console,
    work_dir: str | None = None,
    seed: int | None = None,
    start: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    gpus: int = 1,
) -> dict:
    """Run a pipeline, or what is left of it.

    Args:
        name (str): A pipeline, see :func:`csrm_plugin.experiments.pipeline.recipes.load_recipe`.
        root (str): Folder of the project.
        console (rich.console.Console): Where to print.
        work_dir (str, optional): Default: ``work_dirs/pipeline_<name>``.
        seed (int, optional): In place of the pipeline's.
        start (str, optional): Stage from which on everything runs anew; those before it are taken as they are.
        until (str, optional): Last stage.
        dry_run (bool): Only say what would run, with the commands.
        gpus (int): Processes of each training and test, and shards of what makes labels and masks.

    Returns:
        dict: ``ran``, ``skipped`` and ``left_out`` (names of stages), ``folder`` of the run, and ``table`` (path of
        ``table.json``) where the pipeline came so far.

    Raises:
        UserError: If a stage fails; the stages before it keep their results. Also if one before ``start`` has not
            finished.
    """
    # Each of the many configs that are read would say again which variables it uses.
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    recipe = load_recipe(name, root)
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    numbers = [recipe.stage(stage).number for stage in (start, until) if stage is not None]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise UserError(f'--until {until} comes before --from {start}')
    check_gpus(gpus)
    run = Run(recipe, root, work_dir or osp.join('work_dirs', f'pipeline_{recipe.name}'), gpus)
    for variable, path in run.environment.items():
        console.print(f'{variable} is not set: taking {path}', highlight=False, soft_wrap=True)
    for variable in recipe.environment:
        if variable not in os.environ:
            console.print(f'[yellow]{variable} is not set and no file was found: those weights start random.[/yellow]')
    if dry_run:
        return _run_stages(run, console, start, until, dry_run)
    os.makedirs(run.folder, exist_ok=True)
    with only_one(run.folder):
        run.data.load()
        try:
            return _run_stages(run, console, start, until, dry_run)
        finally:
            run.memory.save()


@dataclass(frozen=True)
class _Plan:
    """What becomes of a stage: it is left out, taken for a reason that is told, or runs for one."""

    left_out: str | None = None
    taken: str | None = None
    reason: Reason | None = None
    parts: dict | None = None
    identity: str | None = None


def _run_stages(run: Run, console: Console, start: str | None, until: str | None, dry_run: bool) -> dict:
    outcome: dict = dict(ran=[], skipped=[], left_out=[], folder=run.folder)
    begin = time.monotonic()
    for spec in run.recipe.stages:
        stage = run.stages[spec.name]
        head = f'[bold]{spec.number:2d}/{len(run.recipe.stages)} {spec.name}[/bold]'
        plan = _plan(stage, start)
        if plan.left_out is not None:
            console.print(f'{head}: left out, {plan.left_out}', highlight=False, soft_wrap=True)
            outcome['left_out'].append(spec.name)
        elif plan.taken is not None:
            console.print(f'{head}: {plan.taken}', highlight=False, soft_wrap=True)
            outcome['skipped'].append(spec.name)
            run.done[spec.name] = plan.identity
            if plan.parts is not None and not dry_run:
                renew_card(stage, plan.parts)
        else:
            verb = 'would run' if dry_run else 'runs'
            console.print(f'{head}: {verb}, {plan.reason.text}', highlight=False, soft_wrap=True)
            if dry_run:
                run.done[spec.name] = 'to be made'
                _show_commands(stage, console)
            else:
                fresh = start is not None
                card = run_stage(stage, plan.parts, console, plan.reason, fresh)
                run.done[spec.name] = identity(stage, card['key'], card['outputs'], card['data'])
            outcome['ran'].append(spec.name)
        if spec.name == until:
            break
    if not dry_run:
        _conclude(run, console, outcome, time.monotonic() - begin)
    return outcome


def _plan(stage: Stage, start: str | None) -> _Plan:
    """What becomes of a stage, by what is there and by where ``start`` is."""
    run, spec = stage.run, stage.spec
    begin = None if start is None else run.recipe.stage(start).number
    before = begin is not None and spec.number < begin
    card = cards.read_card(stage.folder)
    missing = stage.missing() if spec.options.get('optional') else None
    if missing is not None and not (before and _is_done(card)):
        return _Plan(left_out=missing)
    if before and not _is_done(card):
        raise UserError(
            f'--from {start}: the stage `{spec.name}` before it has not finished in `{stage.folder}`; '
            f'give --from {spec.name}, or no --from'
        )
    parts = key_parts(stage, {need: run.done[need] for need in spec.needs if need in run.done})
    if begin is not None and not before:
        return _Plan(reason=Reason('asked for by --from', 'asked for'), parts=parts)
    outputs = outputs_of(stage)
    reason = reason_to_run(stage, card, parts, outputs)
    if before:
        gone = [name for name, content in outputs.items() if content is None]
        if gone:
            raise UserError(f'--from {start}: the output {gone[0]} of the stage `{spec.name}` before it is gone')
        text = 'taken as it is' + (f', although {reason.text}' if reason else '')
        return _Plan(taken=text, identity=identity(stage, card['key'], outputs, card['data']))
    if reason is not None:
        return _Plan(reason=reason, parts=parts)
    key = key_of(parts)
    return _Plan(
        taken=f'skipped, {_up_to_date(card)}', parts=parts, identity=identity(stage, key, outputs, card['data'])
    )


def _is_done(card: dict | None) -> bool:
    return card is not None and card.get('status') == 'done'


def _show_commands(stage: Stage, console: Console) -> None:
    for command in stage.commands():
        for part in shared_out(command, stage.run.gpus):
            console.print(f'    python {shlex.join(part)}', highlight=False, soft_wrap=True)


def _conclude(run: Run, console: Console, outcome: dict, seconds: float) -> None:
    """Say what was done, and leave what reports read."""
    run.write_summary()
    table = next((run.stages[spec.name] for spec in run.recipe.stages if spec.kind == 'table'), None)
    if table is not None and table.spec.name in run.done:
        outcome['table'] = table.path('table.json')
    console.print(
        f'{len(outcome["ran"])} stages ran, {len(outcome["skipped"])} were up to date; {seconds / 60:.1f} minutes.',
        highlight=False,
    )


def _up_to_date(card: dict) -> str:
    return (
        f'inputs, code and settings are those of {card["time"]["started"][:16].replace("T", " ")} UTC, when it took '
        f'{card["time"]["seconds"] / 60:.1f} minutes'
    )
