"""Stages that train: on image-level labels, and on label maps."""

import os.path as osp

from csrm_plugin.experiments.pipeline.recipes import TRUTH
from csrm_plugin.experiments.pipeline.stages.base import CONTEXT, Stage, cfg_options, for_inference, inference_arguments
from csrm_plugin.tracking.record import update_cost

#: Scores of ``tools/test.py`` that go into a card.
TEST_SCORES = ('cam/mIoU', 'cam/threshold', 'pseudo/mIoU', 'seg/mIoU', 'cls/mAP', 'affinity/AUC')


class TrainStage(Stage):
    """Trains a model from image-level labels, and scores it on each split at one scale."""

    trains = True

    def config(self) -> tuple[str, dict]:
        options = {'randomness.seed': self.run.recipe.seed, **self.options.get('options', {})}
        if self.options.get('start'):
            options['load_from'] = self.run.checkpoint_of(self.options['start'])
        return self.options['config'], options

    def commands(self) -> list[list[str]]:
        config, options = self.config()
        train = self.run.train_command(config, [*cfg_options(options), '--work-dir', self.path('train')])
        checkpoint = self.run.checkpoint_of(self.spec.name)
        return [train, *(self.test_command(checkpoint, split) for split in self.run.recipe.splits)]

    def outputs(self) -> list[str]:
        return [osp.relpath(self.run.checkpoint_of(self.spec.name), self.folder)]

    def finish(self) -> dict:
        scores, context = {}, {}
        for split in self.run.recipe.splits:
            report = self.read(f'test_{split}.json')
            scores[split] = {key: report[key] for key in TEST_SCORES if key in report}
            names = ('scales', 'flip', 'crf', 'weights', 'pseudo_label')
            context = {key: report['context'].get(key) for key in names}
            if report['context'].get('segmentation'):
                context['segmentation'] = report['context']['segmentation']
        return dict(
            scores=scores,
            context={**context, **self.weights_context()},
            update=update_cost(self.path('train')),
        )


class VerifyStage(Stage):
    """Trains a segmentation network on label maps, and scores it: one scale, several with flip, and with dCRF."""

    trains = True

    @property
    def split(self) -> str:
        """The split that is scored: the last one."""
        return self.run.recipe.splits[-1]

    def missing(self) -> str | None:
        labels = self.options['labels']
        return None if labels == TRUTH else self.run.stage(labels).missing()

    def label_folder(self) -> str:
        """Folder of the label maps that it is trained on."""
        labels = self.options['labels']
        if labels == TRUTH:
            return self.run.data.masks
        return self.run.stage(labels).labels_of(self.run.recipe.splits[0])

    def config(self) -> tuple[str, dict]:
        options = {'randomness.seed': self.run.recipe.seed, **self.options.get('options', {})}
        options['train_dataloader.dataset.pseudo_label_dir'] = self.label_folder()
        if self.options.get('start'):
            options['load_from'] = self.run.checkpoint_of(self.options['start'])
        return self.options['config'], options

    def commands(self) -> list[list[str]]:
        config, options = self.config()
        checkpoint, split = self.run.checkpoint_of(self.spec.name), self.split
        plain, refined = (self.path(osp.join('predictions', name)) for name in ('plain', 'crf'))
        predict = [
            'tools/pseudo_labels.py',
            config,
            checkpoint,
            '--out',
            plain,
            '--crf-out',
            refined,
            '--split',
            split,
            '--source',
            'seg',
            '--unrestricted',
            '--json',
            self.path('made.json'),
        ]
        return [
            self.run.train_command(config, [*cfg_options(options), '--work-dir', self.path('train')]),
            self.test_command(checkpoint, split),
            predict + inference_arguments(self.options) + cfg_options(for_inference(options)),
            self.evaluate_command(split, plain, 'plain'),
            self.evaluate_command(split, refined, 'crf'),
        ]

    def outputs(self) -> list[str]:
        return [osp.relpath(self.run.checkpoint_of(self.spec.name), self.folder)]

    def finish(self) -> dict:
        split = self.split
        scores = {'seg/mIoU': self.read(f'test_{split}.json')['seg/mIoU']}
        views = 'ms' if len(self.options.get('scales', [1])) > 1 else 'ss'
        name = f'seg/mIoU {views} flip' if self.options.get('flip') else f'seg/mIoU {views}'
        scores[name] = self.read(f'plain_{split}.json')['miou']
        report = self.read(f'crf_{split}.json')
        scores[f'{name} crf'] = report['miou']
        context = {key: value for key, value in report['context'].items() if key in CONTEXT}
        context |= self.weights_context()
        context['labels'] = 'true masks' if self.options['labels'] == TRUTH else self.options['labels']
        return dict(
            scores={split: scores},
            context=context,
            images_per_second=self.read('made.json')['images_per_second'],
            update=update_cost(self.path('train')),
        )
