"""Run one stage of a pipeline, and write down on its card what came of it."""

import json
import os
import os.path as osp
import shlex
import time
from datetime import datetime, timezone

from rich.console import Console

from csrm_plugin.config import provenance
from csrm_plugin.experiments.pipeline import cards
from csrm_plugin.experiments.pipeline.commands import minutes, run_command
from csrm_plugin.experiments.pipeline.folders import make_way, remove_replaced
from csrm_plugin.experiments.pipeline.keys import Reason, key_of, keys_of, outputs_of, settings_of
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.experiments.pipeline.stages import Stage


def run_stage(stage: Stage, parts: dict, console: Console, reason: Reason, fresh: bool = False) -> dict:
    """Run a stage and write its card.

    Args:
        stage (Stage): The stage.
        parts (dict): From :func:`csrm_plugin.experiments.pipeline.keys.key_parts`.
        console (rich.console.Console): Where to print.
        reason (Reason): Why it runs.
        fresh (bool): Whether nothing of an earlier call is kept.

    Returns:
        dict: The card.

    Raises:
        UserError: With the line of the log that says why it failed.
    """
    run = stage.run
    place = make_way(stage, parts, reason, fresh)
    if place is not None:
        until = '' if stage.trains else ', until this is done'
        console.print(f'     what was there is set aside in {place}{until}', highlight=False, soft_wrap=True)
    started, begin, peak, ran = datetime.now(timezone.utc), time.monotonic(), 0.0, []
    stage.prepare()
    commands = stage.commands()
    for number, command in enumerate(commands, start=1):
        called, used = run_command(command, run, stage.spec.name, number, len(commands), console)
        peak, ran = max(peak, used), ran + called
    seconds = time.monotonic() - begin
    card = _card(stage, parts, started, seconds, peak, ran)
    cards.write_card(stage.folder, card)
    stage.tidy()
    remove_replaced(stage)
    if card.get('choice'):
        console.print(f'     {cards.choice_line(card["choice"])}', highlight=False, soft_wrap=True)
    console.print(f'     done in {minutes(seconds)}{_headline(card)}', highlight=False, soft_wrap=True)
    if card['context'].get('random_weights'):
        names = ', '.join(card['context']['random_weights'])
        console.print(
            f'     [yellow]{names} started random: no pretrained weights were found.[/yellow]', soft_wrap=True
        )
    return card


def renew_card(stage: Stage, parts: dict) -> None:
    """Write on the card of a stage that is up to date that its inputs were made again, and are the same.

    Args:
        stage (Stage): The stage.
        parts (dict): What it stands on now.
    """
    card = cards.read_card(stage.folder)
    if card['key_parts'] != parts:
        card.update(key=key_of(parts), key_parts=parts, inputs=keys_of(parts['inputs']))
        cards.write_card(stage.folder, card)


def _card(stage: Stage, parts: dict, started: datetime, seconds: float, peak: float, commands: list) -> dict:
    """What is known of a stage at its end."""
    run, found = stage.run, stage.finish()
    return dict(
        stage=stage.spec.name,
        kind=stage.spec.kind,
        run=run.recipe.name,
        number=stage.spec.number,
        status='done',
        command=[shlex.join(['python', *command]) for command in commands],
        key=key_of(parts),
        key_parts=parts,
        config=_config_of(stage),
        seed=run.recipe.seed,
        versions=provenance.versions(),
        git=provenance.git_revision(run.root),
        host=provenance.host(),
        dataset=run.recipe.dataset,
        data=parts.get('data') or _data_of(run),
        inputs=keys_of(parts['inputs']),
        outputs=outputs_of(stage),
        time=dict(
            started=started.isoformat(),
            seconds=round(seconds, 1),
            images_per_second=found.get('images_per_second'),
            update=found.get('update') or None,
        ),
        memory=dict(peak_mib=round(peak, 1), peak_gpu_mib=_gpu_peak(stage.folder)),
        scores=found.get('scores', {}),
        context=found.get('context', {}),
        **({'choice': found['choice']} if 'choice' in found else {}),
    )


def _config_of(stage: Stage) -> dict | None:
    config = stage.config()
    if config is None:
        return None
    settings = settings_of(stage)
    return dict(file=config[0], hash=provenance.config_hash(settings), settings=settings)


def _data_of(run: Run) -> dict:
    for spec in run.recipe.stages:
        card = cards.read_card(run.folder_of(spec.name)) if spec.kind == 'data' else None
        if card:
            return card['data']
    return {}


def _gpu_peak(folder: str) -> float | None:
    """Highest GPU memory in MiB that a training of the stage logged, or None."""
    peak = None
    for base, _, names in os.walk(folder):
        for name in names:
            if name == 'scalars.json':
                with open(osp.join(base, name)) as file:
                    for line in file:
                        value = json.loads(line).get('memory')
                        peak = max(peak or 0, value) if value else peak
    return peak


def _headline(card: dict) -> str:
    """The main scores of a card, in a few words."""
    parts = []
    for split, scores in card['scores'].items():
        shown = [
            f'{name} {value:.1f}'
            for name, value in scores.items()
            if isinstance(value, float) and ('mIoU' in name or name == 'miou')
        ]
        if shown:
            parts.append(f'{split} {", ".join(shown)}')
    return f': {"; ".join(parts)}' if parts else ''
