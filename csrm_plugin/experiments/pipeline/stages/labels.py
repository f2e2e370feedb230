"""Stages that make label maps from trained models, and score them."""

import os.path as osp

from csrm_plugin.experiments.pipeline.stages.base import Stage, cfg_options, for_inference, inference_arguments, number


class LabelsStage(Stage):
    """Makes label maps of every split from a trained model, with ``crf`` a second set refined with dCRF as well."""

    def config(self) -> tuple[str, dict]:
        config, options = self.run.stage(self.options['model']).config()
        return config, {**for_inference(options), **self.options.get('options', {})}

    def labels_of(self, split: str, crf: bool = False) -> str:
        """Folder of the label maps of a split."""
        return osp.join(self.folder, 'crf' if crf else 'plain', self.run.recipe.label_splits.get(split, split))

    def commands(self) -> list[list[str]]:
        config, options = self.config()
        commands = []
        for split in self.run.recipe.label_splits.values():
            command = [
                'tools/pseudo_labels.py',
                config,
                self.run.checkpoint_of(self.options['model']),
                '--out',
                self.labels_of(split),
                '--split',
                split,
                '--source',
                self.options['source'],
                '--json',
                self.path(f'made_{split}.json'),
            ]
            command += inference_arguments(self.options)
            if 'threshold' in self.options:
                command += ['--threshold', number(self.options['threshold'])]
            if self.options.get('crf'):
                command += ['--crf-out', self.labels_of(split, crf=True)]
            if self.options.get('save_cams'):
                command += ['--save-cams']
            commands.append(command + cfg_options(options))
        curve = bool(self.options.get('save_cams'))
        splits = self.run.recipe.splits
        return commands + [self.evaluate_command(split, self.labels_of(split), 'scores', curve) for split in splits]

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
        return {**result, 'images_per_second': speeds[0] if speeds else None}


class RefinedStage(Stage):
    """Scores the labels with dCRF that another stage made beside those without."""

    def labels_of(self, split: str, crf: bool = True) -> str:
        """Folder of the label maps of a split."""
        return self.run.stage(self.options['of']).labels_of(split, crf=True)

    def commands(self) -> list[list[str]]:
        return [self.evaluate_command(split, self.labels_of(split), 'scores') for split in self.run.recipe.splits]

    def finish(self) -> dict:
        return self.label_scores()
