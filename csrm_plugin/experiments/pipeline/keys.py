"""What a stage stands on: settings, code, data, weights and what other stages made. A change makes it run again."""

import hashlib
import json
import os
import os.path as osp
from collections.abc import Mapping
from dataclasses import dataclass

from csrm_plugin.config import provenance
from csrm_plugin.config.code import code_hash, modules_of_settings
from csrm_plugin.datasets import fingerprint
from csrm_plugin.experiments.done import changed_parts
from csrm_plugin.experiments.pipeline.recipes import TRUTH
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.experiments.pipeline.stages import Stage

#: What parts of a key are called for people.
WORDS = {
    'code': 'code of the project',
    'settings': 'settings of the pipeline',
    'processes': 'number of processes of the training',
}


@dataclass(frozen=True)
class Reason:
    """Why a stage runs: for people, and in a few words for the name of a folder."""

    text: str
    short: str


def key_parts(stage: Stage, inputs: dict) -> dict:
    """What a stage stands on; a change of any part makes it run again.

    Args:
        stage (Stage): The stage.
        inputs (dict[str, str]): :func:`identity` of each stage that it stands on.

    Returns:
        dict: ``settings``, ``config``, ``seed``, ``code`` (hashes), ``inputs``, for trainings ``processes`` (ranks draw
        at random each for itself, so that their number changes scores a little) and, for the data stage, ``data``.
    """
    settings = decisive_settings(stage)
    parts = dict(
        settings=provenance.config_hash(stage.settings()),
        code=code_of(stage, settings),
        seed=stage.run.recipe.seed,
        inputs=inputs,
    )
    if settings is not None:
        parts['config'] = provenance.config_hash(settings)
        parts['weights'] = {
            name: provenance.file_hash(os.environ[name])
            for name in stage.run.recipe.environment
            if name in os.environ and osp.isfile(os.environ[name])
        }
    if stage.trains:
        parts['processes'] = stage.run.gpus
    if stage.spec.kind == 'data':
        parts['data'] = fingerprints(stage.run)
    return parts


def code_of(stage: Stage, settings: dict | None) -> str:
    """Hash of the code that decides on a stage: its tools, the classes that its config names, and what they import."""
    tools = {part for command in stage.commands() for part in command if part.startswith('tools/')}
    modules = modules_of_settings(settings or {})
    return code_hash(modules, [osp.join(stage.run.root, tool) for tool in tools])


def settings_of(stage: Stage) -> dict:
    """Flat settings of the stage's own model that decide on its result."""
    config, options = stage.config()
    return provenance.config_settings(stage.run.load(config, without_paths(options)))


def decisive_settings(stage: Stage) -> dict | None:
    """Those of :func:`settings_of` that decide on the stage; None for a stage without a config."""
    if stage.config() is None:
        return None
    return {key: value for key, value in settings_of(stage).items() if stage.reads(key)}


def without_paths(options: Mapping) -> dict:
    """Overrides less those that point into the run's own folder: what is there is in the inputs' keys."""
    return {key: value for key, value in options.items() if not key.endswith(('load_from', 'pseudo_label_dir'))}


def fingerprints(run: Run) -> dict:
    """Fingerprint of each split: pictures and labels, and masks where they are scored or trained on.

    Args:
        run (csrm_plugin.experiments.pipeline.run.Run): The run.
    """
    data, recipe = run.data, run.recipe
    pictures = (osp.relpath(data.pictures, data.root), data.suffix)
    masks = (osp.relpath(data.masks, data.root), '.png')
    truth = any(spec.options.get('labels') == TRUTH for spec in recipe.stages)
    exported = [spec.options['split'] for spec in recipe.stages if spec.kind == 'export']
    result = {}
    for split in dict.fromkeys([*data.splits, *exported]):
        scored = split in (*recipe.splits, *recipe.choice_splits)
        wanted = scored or (split == recipe.train_split and truth)
        if osp.isfile(data.list_of(split)):
            folders = (pictures, masks) if wanted else (pictures,)
            result[split] = fingerprint.data_fingerprint(
                data.root, data.list_of(split), folders, data.label_file(split)
            )
    return result


def outputs_of(stage: Stage) -> dict:
    """What the outputs of a stage hold now, by name; None for one that is not there."""
    places = {name: stage.path(name) for name in stage.outputs()}
    return {name: stage.run.memory.content(path) if osp.exists(path) else None for name, path in places.items()}


def identity(stage: Stage, key: str, outputs: dict, data: dict | None = None) -> str:
    """What stages that stand on this one remember of it: its key, and a hash of what it hands on.

    Args:
        stage (Stage): The stage.
        key (str): Of its card.
        outputs (dict): What its outputs hold; of a stage that has none its key counts.
        data (dict, optional): Of the card: what the data stage hands on.
    """
    content = [outputs, data] if stage.spec.kind == 'data' else outputs or key
    return f'{key} {hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}'


def keys_of(inputs: Mapping[str, str]) -> dict:
    """The keys in :func:`identity` of several stages: the same in every run with the same settings, data and code."""
    return {name: value.split(' ')[0] for name, value in inputs.items()}


def key_of(parts: dict) -> str:
    """Hash of what a stage stands on, the same in every run with the same settings, data and code."""
    return provenance.config_hash({**parts, 'inputs': keys_of(parts['inputs'])})


def reason_to_run(stage: Stage, card: dict | None, parts: dict, outputs: dict) -> Reason | None:
    """Why a stage must run; None if its card and its outputs are those of the same key.

    Args:
        stage (Stage): The stage.
        card (dict | None): Of an earlier call.
        parts (dict): From :func:`key_parts`.
        outputs (dict): From :func:`outputs_of`.
    """
    if card is None or card.get('status') != 'done':
        there = osp.isdir(stage.folder)
        return Reason('it was not finished' if there else 'it has not run here yet', 'not finished')
    for name, content in outputs.items():
        if content is None:
            return Reason(f'its output {name} is gone', 'output gone')
        if content != (card.get('outputs') or {}).get(name):
            return Reason(f'its output {name} was changed', 'output changed')
    old = card.get('key_parts') or {}
    changed = _changed(stage, old, parts)
    if not changed:
        return None
    words = {name: WORDS.get(name, name) for name in changed}
    if 'inputs' in changed:
        stages = changed_parts(_counted(stage, old.get('inputs') or {}), _counted(stage, parts['inputs']))
        words['inputs'] = f'inputs ({", ".join(stages)})'
    return Reason(f'changed since: {", ".join(words.values())}', changed_words(stage, old, parts))


def changed_words(stage: Stage, old: Mapping, parts: Mapping) -> str:
    """Which parts of a key are not what they were, for the name of a folder: ``code inputs changed``."""
    changed = _changed(stage, old, parts)
    return f'{" ".join(changed)} changed' if changed else ''


def _changed(stage: Stage, old: Mapping, parts: Mapping) -> list[str]:
    """Names of the parts of a key that are not what they were."""
    old, parts = ({**side, 'inputs': _counted(stage, side.get('inputs') or {})} for side in (old, parts))
    return changed_parts(old, parts)


def _counted(stage: Stage, inputs: Mapping[str, str]) -> dict:
    """Of each input what counts for a stage: what was handed on, and for some also how it was made."""
    return {name: value.split(' ')[-1] if stage.by_content else value for name, value in inputs.items()}
