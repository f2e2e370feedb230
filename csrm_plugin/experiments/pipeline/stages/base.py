"""What all kinds of stages share: the tools that they call, where their files lie, and how scores get on a card.

All commands are those that a user could type; ``tools/pipeline.py --dry-run`` prints them.
"""

import json
import os.path as osp
from typing import Protocol

from mmengine.config import Config

from csrm_plugin.experiments.pipeline.data import RunData
from csrm_plugin.experiments.pipeline.recipes import Recipe, StageSpec

#: What :class:`csrm_plugin.models.checkpoints.initializers.OptionalPretrained` says where weights could not be had.
FROM_SCRATCH = ' starts from scratch, with random weights'
#: Background scores of the curve over saved CAMs.
CURVE = '0.05:0.95:0.05'
#: Entries of the context of an evaluation that stand beside a score.
CONTEXT = (
    'source',
    'scales',
    'flip',
    'crf',
    'threshold',
    'threshold_chosen_on',
    'bg_threshold',
    'own_views',
    'weights',
    'segmentation',
    'restricted',
    'sepl',
)


class StageRun(Protocol):
    """What a stage asks of the run that it belongs to, a :class:`csrm_plugin.experiments.pipeline.run.Run`."""

    recipe: Recipe
    folder: str
    data: RunData

    def folder_of(self, name: str) -> str:
        """Folder of a stage."""

    def stage(self, name: str) -> 'Stage':
        """A stage by its name."""

    def checkpoint_of(self, name: str) -> str:
        """The checkpoint that a training stage ends with."""

    def train_command(self, config: str, arguments: list[str]) -> list[str]:
        """A training."""


class Stage:
    """One stage of a run.

    Args:
        spec (StageSpec): From the pipeline.
        run (csrm_plugin.experiments.pipeline.run.Run): The run that it belongs to.
    """

    #: Whether it trains: what it made may have taken days, and is never removed.
    trains: bool = False
    #: Whether it stands only on what other stages hand on, not on how that was made, and with what scores.
    by_content: bool = True

    def __init__(self, spec: StageSpec, run: StageRun) -> None:
        self.spec, self.run = spec, run
        self.options = spec.options
        self.folder = run.folder_of(spec.name)

    def missing(self) -> str | None:
        """Why an optional stage cannot run; None if it can."""
        return None

    def settings(self) -> dict:
        """What decides on the result beside inputs, config, code and data: the pipeline's entry and the commands.

        The same in every run, wherever it and the data lie, and for every number of GPUs.
        """
        commands = [list(filter(None, map(self._anywhere, command))) for command in self.commands()]
        return dict(options={key: value for key, value in self.options.items() if key != 'optional'}, commands=commands)

    def _anywhere(self, part: str) -> str:
        """A part of a command with ``RUN`` for the run's folder, ``DATA`` for the data root, less other places."""
        head, equals, value = part.rpartition('=')
        for name, folder in (('RUN', self.run.folder), ('DATA', self.run.data.root)):
            folder = folder.rstrip('/')
            if value == folder or value.startswith(f'{folder}/'):
                return f'{head}{equals}{name}{value[len(folder) :]}'
        return f'{head}{equals}{osp.basename(value)}' if head and osp.isabs(value) else '' if osp.isabs(value) else part

    def reads(self, key: str) -> bool:
        """Whether a setting of its config decides on its result."""
        return True

    def config(self) -> tuple[str, dict] | None:
        """Config file and overrides of the stage's own model, or None."""
        return None

    def commands(self) -> list[list[str]]:
        """The tools to call with their arguments, one after the other."""
        return []

    def prepare(self) -> None:
        """What is done before the commands, in this process."""

    def finish(self) -> dict:
        """What the card says of the result, from what is there: ``scores`` (by split), ``context``.

        Perhaps also ``images_per_second``, ``update`` (what one of a training costs, see
        :func:`csrm_plugin.tracking.record.update_cost`), and ``choice``: a threshold and how it was chosen.
        """
        return {}

    def tidy(self) -> None:
        """Remove what only the stage itself needed, once its card is written."""

    def outputs(self) -> list[str]:
        """Files and folders, relative to the stage's, that must be there for it to count as done."""
        return []

    # What several kinds need.

    def evaluate_command(self, split: str, labels: str, name: str, curve: bool = False) -> list[str]:
        """Score the label maps of a split; ``name`` is the stem of the JSON file."""
        data = self.run.data
        command = [
            'tools/evaluate_labels.py',
            labels,
            data.masks,
            '--split-file',
            data.list_of(split),
            '--json',
            self.path(f'{name}_{split}.json'),
        ]
        command += ['--thresholds', CURVE, '--plot', self.path(f'{name}_{split}.png')] if curve else []
        return command

    def test_command(self, checkpoint: str, split: str) -> list[str]:
        """Score a model on a split at one scale."""
        config, options = self.config()
        # What it was trained on is named in the report.
        told = {key: value for key, value in options.items() if key.endswith('pseudo_label_dir')}
        options = {**for_inference(options), **told}
        options['test_dataloader.dataset.ann_file'] = self.run.data.ann_file(split)
        return [
            'tools/test.py',
            config,
            checkpoint,
            '--work-dir',
            self.path('test'),
            '--json',
            self.path(f'test_{split}.json'),
            *cfg_options(options),
        ]

    def path(self, name: str) -> str:
        """A path in the stage's folder."""
        return osp.join(self.folder, name)

    def weights_context(self) -> dict:
        """``random_weights``: parts of the model that had no pretrained weights, as the training's log says."""
        if self.options.get('start'):
            return {}  # what the initialisation could not have, the checkpoint that it starts from brings
        with open(self.path('logs/01_train.log'), errors='replace') as file:
            names = {line.split(FROM_SCRATCH)[0].split()[-1] for line in file if FROM_SCRATCH in line}
        return dict(random_weights=sorted(names)) if names else {}

    def read(self, name: str) -> dict:
        """A JSON file of the stage's folder."""
        with open(self.path(name)) as file:
            return json.load(file)

    def label_scores(self, name: str = 'scores') -> dict:
        """``scores`` and ``context`` from what ``tools/evaluate_labels.py`` wrote."""
        scores, context = {}, {}
        for split in self.run.recipe.splits:
            report = self.read(f'{name}_{split}.json')
            scores[split] = {key: report[key] for key in ('miou', 'fp', 'fn')}
            if report.get('best'):
                scores[split] |= {'best_miou': report['best']['miou'], 'best_threshold': report['best']['threshold']}
            context = {key: value for key, value in report['context'].items() if key in CONTEXT}
        return dict(scores=scores, context=context)


def for_inference(options: dict) -> dict:
    """Overrides of a training that its model needs to be built again."""
    return {
        key: value
        for key, value in options.items()
        if not key.startswith(('load_from', 'randomness', 'train_', 'optim_wrapper', 'custom_hooks'))
    }


def cfg_options(options: dict) -> list[str]:
    """``--cfg-options`` for a dict, or nothing for an empty one."""
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())] if options else []


def number(value: float) -> str:
    """A number without a needless fraction, for command lines."""
    return f'{value:g}'


def inference_arguments(options: dict) -> list[str]:
    """Scales and flip of a stage, as arguments."""
    scales = options.get('scales', [1])
    arguments = ['--scales', *map(number, scales)] + (['--flip'] if options.get('flip') else [])
    if options.get('crf_options'):
        arguments += ['--crf-options', *(f'{key}={value}' for key, value in options['crf_options'].items())]
    return arguments


def last_checkpoint(folder: str, cfg: Config) -> str:
    """The checkpoint that a finished training leaves in its work directory, by name, whether it is there yet or not.

    Args:
        folder (str): Work directory.
        cfg (mmengine.config.Config): Config of the training.
    """
    train_cfg = cfg.train_cfg
    by_epoch = train_cfg.get('by_epoch', train_cfg.get('type', 'EpochBasedTrainLoop') == 'EpochBasedTrainLoop')
    name = f'epoch_{train_cfg.max_epochs}.pth' if by_epoch else f'iter_{train_cfg.max_iters}.pth'
    return osp.join(folder, name)
