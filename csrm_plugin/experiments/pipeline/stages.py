"""What each kind of stage does: the commands that it runs, what it stands on, and what it reads from their results.

All commands are those that a user could type; ``tools/pipeline.py --dry-run`` prints them.
"""

import json
import os
import os.path as osp

from csrm_plugin.config.load import load_config
from csrm_plugin.datasets import voc_layout
from csrm_plugin.experiments.pipeline.recipes import TRUTH, Recipe, StageSpec
from csrm_plugin.inference.pseudo_labels import split_dataset

#: Scores of ``tools/test.py`` that go into a card.
TEST_SCORES = ('cam/mIoU', 'cam/threshold', 'pseudo/mIoU', 'seg/mIoU', 'cls/mAP', 'affinity/AUC')
#: What :class:`csrm_plugin.models.checkpoints.initializers.OptionalPretrained` says where weights could not be had.
FROM_SCRATCH = ' starts from scratch, with random weights'
#: Background scores of the curve over saved CAMs.
CURVE = '0.05:0.95:0.05'
REFINE_CODE = ('refine.build', 'refine.dense_crf', 'refine.pixel_adaptive')
MODEL_CODE = ('functional', 'models', 'datasets', 'engine', *REFINE_CODE, 'evaluation')
LABEL_CODE = ('inference.predictor', 'inference.pseudo_labels', 'visualization.label_png')
SEPL_CODE = ('refine.sam', 'inference.refine_sam', 'visualization.label_png')


class Stage:
    """One stage of a run.

    Args:
        spec (StageSpec): From the pipeline.
        run (csrm_plugin.experiments.pipeline.runner.Run): The run that it belongs to.
    """

    #: Sub-packages whose code decides on the result.
    code: tuple = ()

    def __init__(self, spec: StageSpec, run) -> None:
        self.spec, self.run = spec, run
        self.options = spec.options
        self.folder = run.folder_of(spec.name)

    def missing(self) -> str | None:
        """Why an optional stage cannot run; None if it can."""
        return None

    def settings(self) -> dict:
        """What decides on the result beside inputs, config, code and data: the pipeline's entry and the commands."""
        commands = [[part.replace(self.run.folder, 'RUN') for part in command] for command in self.commands()]
        return dict(
            options={key: value for key, value in self.options.items() if key != 'optional'},
            commands=[[part for part in command if not osp.isabs(part)] for command in commands],
        )

    def config(self):
        """Config file and overrides of the stage's own model, or None."""
        return None

    def commands(self) -> list[list[str]]:
        """The tools to call with their arguments, one after the other."""
        return []

    def prepare(self) -> None:
        """What is done before the commands, in this process."""

    def finish(self) -> dict:
        """``scores`` (by split), ``context`` and perhaps ``images_per_second`` of the card, from what is there."""
        return {}

    def outputs(self) -> list[str]:
        """Files and folders, relative to the stage's, that must be there for it to count as done."""
        return []

    # What several kinds need.

    def evaluate_command(self, split, labels, name, curve=False) -> list[str]:
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

    def test_command(self, checkpoint, split) -> list[str]:
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

    def path(self, name) -> str:
        """A path in the stage's folder."""
        return osp.join(self.folder, name)

    def weights_context(self) -> dict:
        """``random_weights``: parts of the model that had no pretrained weights, as the training's log says."""
        if self.options.get('start'):
            return {}  # what the initialisation could not have, the checkpoint that it starts from brings
        with open(self.path('logs/01_train.log'), errors='replace') as file:
            names = {line.split(FROM_SCRATCH)[0].split()[-1] for line in file if FROM_SCRATCH in line}
        return dict(random_weights=sorted(names)) if names else {}

    def read(self, name) -> dict:
        """A JSON file of the stage's folder."""
        with open(self.path(name)) as file:
            return json.load(file)

    def label_scores(self, name='scores') -> dict:
        """``scores`` and ``context`` from what ``tools/evaluate_labels.py`` wrote."""
        scores, context = {}, {}
        for split in self.run.recipe.splits:
            report = self.read(f'{name}_{split}.json')
            scores[split] = {key: report[key] for key in ('miou', 'fp', 'fn')}
            if report.get('best'):
                scores[split] |= {'best_miou': report['best']['miou'], 'best_threshold': report['best']['threshold']}
            context = {key: value for key, value in report['context'].items() if key in CONTEXT}
        return dict(scores=scores, context=context)


#: Entries of the context of an evaluation that stand beside a score.
CONTEXT = (
    'source',
    'scales',
    'flip',
    'crf',
    'threshold',
    'bg_threshold',
    'weights',
    'segmentation',
    'restricted',
    'sepl',
)


def for_inference(options) -> dict:
    """Overrides of a training that its model needs to be built again."""
    return {
        key: value
        for key, value in options.items()
        if not key.startswith(('load_from', 'randomness', 'train_', 'optim_wrapper', 'custom_hooks'))
    }


def cfg_options(options) -> list[str]:
    """``--cfg-options`` for a dict, or nothing for an empty one."""
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())] if options else []


def number(value) -> str:
    """A number without a needless fraction, for command lines."""
    return f'{value:g}'


class DataStage(Stage):
    """Draws synthetic data where there is none, and checks pictures, masks, labels and lists."""

    code = ('datasets',)

    def config(self):
        return self.options['config'], {}

    def commands(self):
        # Masks are looked for where they are scored; a larger training split need not have any.
        return [['tools/prepare_data.py', 'check', '--root', self.run.data.root, '--splits', *self.run.recipe.splits]]

    def finish(self):
        return dict(context=dict(splits={split: self.run.data.count(split) for split in self.run.data.splits}))


class TrainStage(Stage):
    """Trains a model from image-level labels, and scores it on each split at one scale."""

    code = MODEL_CODE

    def config(self):
        options = {'randomness.seed': self.run.recipe.seed, **self.options.get('options', {})}
        if self.options.get('start'):
            options['load_from'] = self.run.checkpoint_of(self.options['start'])
        return self.options['config'], options

    def commands(self):
        config, options = self.config()
        train = self.run.train_command(config, [*cfg_options(options), '--work-dir', self.path('train')])
        checkpoint = self.run.checkpoint_of(self.spec.name)
        return [train, *(self.test_command(checkpoint, split) for split in self.run.recipe.splits)]

    def outputs(self):
        return [osp.relpath(self.run.checkpoint_of(self.spec.name), self.folder)]

    def finish(self):
        scores, context = {}, {}
        for split in self.run.recipe.splits:
            report = self.read(f'test_{split}.json')
            scores[split] = {key: report[key] for key in TEST_SCORES if key in report}
            names = ('scales', 'flip', 'crf', 'weights', 'pseudo_label')
            context = {key: report['context'].get(key) for key in names}
            if report['context'].get('segmentation'):
                context['segmentation'] = report['context']['segmentation']
        return dict(scores=scores, context={**context, **self.weights_context()})


class LabelsStage(Stage):
    """Makes label maps of every split from a trained model, with ``crf`` a second set refined with dCRF as well."""

    code = (*MODEL_CODE, *LABEL_CODE)

    def config(self):
        config, options = self.run.stage(self.options['model']).config()
        return config, {**for_inference(options), **self.options.get('options', {})}

    def labels_of(self, split, crf=False) -> str:
        """Folder of the label maps of a split."""
        return osp.join(self.folder, 'crf' if crf else 'plain', self.run.recipe.label_splits.get(split, split))

    def commands(self):
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

    def outputs(self):
        splits = self.run.recipe.splits
        crf = (False, True) if self.options.get('crf') else (False,)
        return [osp.relpath(self.labels_of(split, which), self.folder) for split in splits for which in crf]

    def finish(self):
        made = [self.read(f'made_{split}.json') for split in self.run.recipe.label_splits.values()]
        speeds = [summary['images_per_second'] for summary in made if summary['made'] == summary['pictures']]
        tiled = sum(len(summary['tiled']) for summary in made)
        result = self.label_scores()
        if tiled:
            result['context']['tiled_pictures'] = tiled
        return {**result, 'images_per_second': speeds[0] if speeds else None}


class RefinedStage(Stage):
    """Scores the labels with dCRF that another stage made beside those without."""

    code = ('evaluation', 'inference.evaluate_labels')

    def labels_of(self, split, crf=True) -> str:
        """Folder of the label maps of a split."""
        return self.run.stage(self.options['of']).labels_of(split, crf=True)

    def commands(self):
        return [self.evaluate_command(split, self.labels_of(split), 'scores') for split in self.run.recipe.splits]

    def finish(self):
        return self.label_scores()


class MasksStage(Stage):
    """Makes mask proposals for every split, with SAM or with superpixels."""

    code = ('refine.sam', 'inference.sam_masks')

    def generator(self) -> str:
        """Checkpoint of SAM, or ``superpixels``; ``$NAME`` in the pipeline is an environment variable."""
        value = self.options['generator']
        return os.environ.get(value[1:], '') if value.startswith('$') else value

    def missing(self):
        if not self.generator():
            return f'{self.options["generator"]} is not set to a SAM checkpoint'
        return None

    def masks_of(self, split) -> str:
        """Folder of the masks of a split."""
        return osp.join(self.folder, self.run.recipe.label_splits.get(split, split))

    def settings(self):
        # Weights count by their files, not by where they lie.
        generator = self.generator()
        files = (
            sorted((entry.name, entry.stat().st_size) for entry in os.scandir(generator))
            if osp.isdir(generator)
            else []
        )
        return dict(options=self.options.get('options', []), generator=osp.basename(generator), files=files)

    def commands(self):
        data = self.run.data
        return [
            [
                'tools/sam_masks.py',
                self.generator(),
                data.pictures,
                '--out',
                self.masks_of(split),
                '--split-file',
                data.list_of(split),
                '--suffix',
                data.suffix,
                *self.options.get('options', []),
            ]
            for split in self.run.recipe.label_splits.values()
        ]

    def outputs(self):
        return [osp.relpath(self.masks_of(split), self.folder) for split in self.run.recipe.splits]

    def finish(self):
        return dict(context=dict(masks=osp.basename(self.generator())))


class SEPLStage(Stage):
    """Merges labels with mask proposals."""

    code = (*SEPL_CODE, 'evaluation', 'inference.evaluate_labels')

    def labels_of(self, split, crf=False) -> str:
        """Folder of the label maps of a split."""
        return osp.join(self.folder, 'labels', self.run.recipe.label_splits.get(split, split))

    def missing(self):
        return self.run.stage(self.options['masks']).missing()

    def commands(self):
        data = self.run.data
        labels, masks = self.run.stage(self.options['labels']), self.run.stage(self.options['masks'])
        made = [
            [
                'tools/refine_sam.py',
                labels.labels_of(split),
                masks.masks_of(split),
                '--out',
                self.labels_of(split),
                '--split-file',
                data.list_of(split),
            ]
            for split in self.run.recipe.label_splits.values()
        ]
        splits = self.run.recipe.splits
        return made + [self.evaluate_command(split, self.labels_of(split), 'scores') for split in splits]

    def outputs(self):
        return [osp.relpath(self.labels_of(split), self.folder) for split in self.run.recipe.splits]

    def finish(self):
        return self.label_scores()


class VerifyStage(Stage):
    """Trains a segmentation network on label maps, and scores it: one scale, several with flip, and with dCRF."""

    code = (*MODEL_CODE, *LABEL_CODE)

    @property
    def split(self) -> str:
        """The split that is scored: the last one."""
        return self.run.recipe.splits[-1]

    def missing(self):
        labels = self.options['labels']
        return None if labels == TRUTH else self.run.stage(labels).missing()

    def label_folder(self) -> str:
        """Folder of the label maps that it is trained on."""
        labels = self.options['labels']
        if labels == TRUTH:
            return self.run.data.masks
        return self.run.stage(labels).labels_of(self.run.recipe.splits[0])

    def config(self):
        options = {'randomness.seed': self.run.recipe.seed, **self.options.get('options', {})}
        options['train_dataloader.dataset.pseudo_label_dir'] = self.label_folder()
        if self.options.get('start'):
            options['load_from'] = self.run.checkpoint_of(self.options['start'])
        return self.options['config'], options

    def commands(self):
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

    def outputs(self):
        return [osp.relpath(self.run.checkpoint_of(self.spec.name), self.folder)]

    def finish(self):
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
            scores={split: scores}, context=context, images_per_second=self.read('made.json')['images_per_second']
        )


class ExportStage(Stage):
    """Predicts the test split and packs the archive for the VOC server."""

    code = (*MODEL_CODE, *LABEL_CODE, 'inference.export_voc')

    def missing(self):
        path = self.run.data.list_of(self.options['split'])
        return None if osp.isfile(path) else f'there is no list {path}'

    def config(self):
        config, options = self.run.stage(self.options['model']).config()
        return config, for_inference(options)

    def commands(self):
        split, out = self.options['split'], self.path('predictions')
        arguments = inference_arguments(self.options) + (['--crf'] if self.options.get('crf') else [])
        config, options = self.config()
        checkpoint = self.run.checkpoint_of(self.options['model'])
        return [
            [
                'tools/pseudo_labels.py',
                config,
                checkpoint,
                '--out',
                out,
                '--split',
                split,
                '--source',
                'seg',
                '--unrestricted',
                *arguments,
                *cfg_options(options),
            ],
            [
                'tools/export_voc.py',
                out,
                '--split-file',
                self.run.data.list_of(split),
                '--out',
                self.path('results.tgz'),
                '--pictures',
                self.run.data.pictures,
            ],
        ]

    def outputs(self):
        return ['results.tgz']


class TableStage(Stage):
    """Puts the scores of all stages into the paper's Table 2 for this run."""

    code = ('report.paper',)

    def prepare(self):
        self.run.write_summary()

    def commands(self):
        return [['tools/report.py', self.run.folder, '--table', self.folder]]

    def outputs(self):
        return ['table.md', 'table.json']


STAGES = {
    'data': DataStage,
    'train': TrainStage,
    'labels': LabelsStage,
    'refined': RefinedStage,
    'masks': MasksStage,
    'sepl': SEPLStage,
    'verify': VerifyStage,
    'export': ExportStage,
    'table': TableStage,
}


def inference_arguments(options) -> list[str]:
    """Scales and flip of a stage, as arguments."""
    scales = options.get('scales', [1])
    arguments = ['--scales', *map(number, scales)] + (['--flip'] if options.get('flip') else [])
    if options.get('crf_options'):
        arguments += ['--crf-options', *(f'{key}={value}' for key, value in options['crf_options'].items())]
    return arguments


class RunData:
    """The data set of a run, as its config's test data set says.

    Args:
        recipe (Recipe): The pipeline.
        config (str): Path of its config.
    """

    def __init__(self, recipe: Recipe, config: str) -> None:
        self.cfg = load_config(config)
        dataset = self.cfg.test_dataloader.dataset
        prefix = dataset.get('data_prefix', {})
        self.recipe = recipe
        self.root = dataset.data_root
        self.lists = osp.dirname(dataset.ann_file)
        self.pictures = osp.join(self.root, prefix.get('img_path', 'JPEGImages'))
        self.masks = osp.join(self.root, prefix.get('seg_map_path', 'SegmentationClass'))
        self.suffix = dataset.get('img_suffix', '.jpg')

    @property
    def splits(self) -> list[str]:
        """All splits that the run scores or trains on."""
        return list(dict.fromkeys([*self.recipe.splits, self.recipe.train_split]))

    def label_file(self, split) -> str | None:
        """Label file of a split."""
        return voc_layout.find_label_file(self.root, split, self.cfg.test_dataloader.dataset.get('label_file'))

    def ann_file(self, split) -> str:
        """List of a split, relative to the data root."""
        return osp.join(self.lists, f'{split}.txt')

    def list_of(self, split) -> str:
        """Path of the list of a split."""
        return osp.join(self.root, self.ann_file(split))

    def count(self, split) -> int:
        """Number of pictures of a split."""
        with open(self.list_of(split)) as file:
            return sum(bool(line.strip()) for line in file)

    def load(self) -> None:
        """Build the data set of every split, which draws synthetic ones and finds missing files and labels.

        Raises:
            UserError: Naming what is missing.
        """
        for split in self.splits:
            split_dataset(self.cfg, split, with_labels=True)


def last_checkpoint(folder, cfg) -> str:
    """The checkpoint that a finished training leaves in its work directory, by name, whether it is there yet or not.

    Args:
        folder (str): Work directory.
        cfg (mmengine.config.Config): Config of the training.
    """
    train_cfg = cfg.train_cfg
    by_epoch = train_cfg.get('by_epoch', train_cfg.get('type', 'EpochBasedTrainLoop') == 'EpochBasedTrainLoop')
    name = f'epoch_{train_cfg.max_epochs}.pth' if by_epoch else f'iter_{train_cfg.max_iters}.pth'
    return osp.join(folder, name)
