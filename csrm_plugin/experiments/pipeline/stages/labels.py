"""Stages that make label maps from trained models, and score them."""

import os.path as osp
import shutil

from csrm_plugin.experiments.pipeline.recipes import BEST
from csrm_plugin.experiments.pipeline.stages.base import Stage, cfg_options, for_inference, inference_arguments, number

#: Folder of the CAMs that a threshold is chosen with; removed afterwards.
CHOICE = 'choice'


class LabelsStage(Stage):
    """Makes label maps of every split from a trained model, with ``crf`` a second set refined with dCRF as well.

    With ``threshold: best``, the CAMs of the split ``choose_on``, of the same scales and flip, are scored over a curve
    of thresholds first, and the best one is that of every split.
    """

    def config(self) -> tuple[str, dict]:
        config, options = self.run.stage(self.options['model']).config()
        return config, {**for_inference(options), **self.options.get('options', {})}

    def labels_of(self, split: str, crf: bool = False) -> str:
        """Folder of the label maps of a split."""
        return osp.join(self.folder, 'crf' if crf else 'plain', self.run.recipe.label_splits.get(split, split))

    @property
    def choice_split(self) -> str | None:
        """The split whose masks choose the threshold; None where it is fixed, or where that split has no masks."""
        split = self.options.get('choose_on')
        return split if split is not None and self.run.data.has_masks(split) else None

    def commands(self) -> list[list[str]]:
        splits, chosen = self.run.recipe.splits, self.choice_split
        curve, choice = bool(self.options.get('save_cams')), []
        arguments = self._fixed_threshold()
        if chosen is not None:
            cams = self.path(CHOICE)
            choice = [
                self._label_command(chosen, cams, f'made_{CHOICE}', [*arguments, '--save-cams']),
                self.evaluate_command(chosen, cams, 'threshold', curve=True),
            ]
            arguments = ['--threshold-from', self.path(f'threshold_{chosen}.json')]
        made = []
        for split in self.run.recipe.label_splits.values():
            crf = ['--crf-out', self.labels_of(split, crf=True)] if self.options.get('crf') else []
            more = [*arguments, *crf, *(['--save-cams'] if curve else [])]
            made.append(self._label_command(split, self.labels_of(split), f'made_{split}', more))
        scored = [self.evaluate_command(split, self.labels_of(split), 'scores', curve) for split in splits]
        return [*choice, *made, *scored]

    def _fixed_threshold(self) -> list[str]:
        """The threshold of the pipeline, if it has one: that where none can be chosen, or where none has been yet."""
        threshold = self.options.get('threshold')
        threshold = self.options['fallback'] if threshold == BEST else threshold
        return [] if threshold is None else ['--threshold', number(threshold)]

    def _label_command(self, split: str, out: str, name: str, more: list[str]) -> list[str]:
        """Label maps of a split in a folder; ``name`` is the stem of the JSON file that says what was done."""
        config, options = self.config()
        return [
            'tools/pseudo_labels.py',
            config,
            self.run.checkpoint_of(self.options['model']),
            '--out',
            out,
            '--split',
            split,
            '--source',
            self.options['source'],
            '--json',
            self.path(f'{name}.json'),
            *inference_arguments(self.options),
            *more,
            *cfg_options(options),
        ]

    def outputs(self) -> list[str]:
        splits = self.run.recipe.splits
        crf = (False, True) if self.options.get('crf') else (False,)
        return [osp.relpath(self.labels_of(split, which), self.folder) for split in splits for which in crf]

    def finish(self) -> dict:
        made = [self.read(f'made_{split}.json') for split in self.run.recipe.label_splits.values()]
        speeds = [summary['images_per_second'] for summary in made if summary['made'] == summary['pictures']]
        tiled = sum(len(summary['tiled']) for summary in made)
        result = self.label_scores()
        if tiled:
            result['context']['tiled_pictures'] = tiled
        choice = self._choice()
        return {**result, **choice, 'images_per_second': speeds[0] if speeds else None}

    def _choice(self) -> dict:
        """``choice`` of the card: split, threshold and, where there were masks, pictures, mIoU (percent) and curve."""
        split, chosen = self.options.get('choose_on'), self.choice_split
        if split is None:
            return {}
        if chosen is None:
            fixed = self.options['fallback']
            return dict(choice=dict(split=split, threshold=fixed, miou=None, pictures=None, curve=[]))
        report = self.read(f'threshold_{chosen}.json')
        best, pictures = report['best'], report['context']['pictures']
        found = dict(threshold=best['threshold'], miou=best['miou'], pictures=pictures, curve=report['curve'])
        return dict(choice=dict(split=split, **found))

    def tidy(self) -> None:
        shutil.rmtree(self.path(CHOICE), ignore_errors=True)


class RefinedStage(Stage):
    """Scores the labels with dCRF that another stage made beside those without."""

    def labels_of(self, split: str, crf: bool = True) -> str:
        """Folder of the label maps of a split."""
        return self.run.stage(self.options['of']).labels_of(split, crf=True)

    def commands(self) -> list[list[str]]:
        return [self.evaluate_command(split, self.labels_of(split), 'scores') for split in self.run.recipe.splits]

    def finish(self) -> dict:
        return self.label_scores()
