"""The demo: a classifier and then CSRM on synthetic pictures, compared in tables and a sheet of pictures."""

import contextlib
import io
import os.path as osp
import time
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from csrm_plugin import functional as F
from csrm_plugin.engine.testing import prepare_testing, report_of
from csrm_plugin.engine.training import prepare_training, run_training
from csrm_plugin.experiments.demo_labels import Trained, baseline_verdict, label_cards
from csrm_plugin.refine import refinement_title
from csrm_plugin.utils import UserError, write_json
from csrm_plugin.utils.label_sources import describe_source
from csrm_plugin.utils.pictures import read_rgb
from csrm_plugin.visualization import Panel, draw_sheet, overlay_cams, overlay_labels, save_picture

#: For each stage and split, what ``tools/test.py --json`` writes.
Reports = dict[str, dict[str, dict]]

SPLITS = ('train', 'val')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SHEET_PICTURES = 8
#: Warnings of the host about itself, which mean nothing to who watches the demo.
HOST_CHATTER = ('deprecated in future',)
#: Rows of the table: metric, split.
ROWS = (
    ('pseudo/mIoU', 'train'),
    ('pseudo/mIoU', 'val'),
    ('cam/mIoU', 'train'),
    ('cam/mIoU', 'val'),
    ('seg/mIoU', 'train'),
    ('seg/mIoU', 'val'),
    ('cls/mAP', 'val'),
)


def run_demo(
    configs: Sequence[str], work_dir: str, seed: int, console: Console, quick: bool = False
) -> tuple[Reports, list[dict]]:
    """Train both stages, score them on both splits, print the table, make labels, and draw the sheet.

    Args:
        configs (Sequence[str]): Config files of the classifier and of CSRM.
        work_dir (str): Gets a folder per stage, ``<stage>_<split>.json``, ``labels``, ``contact_sheet.png`` and
            ``report.html``.
        seed (int): Seed of the training, at least 0; the pictures stay the same.
        console (rich.console.Console): Where progress and results are printed.
        quick (bool): A few iterations on a few small pictures, to see that everything runs.

    Returns:
        tuple[dict[str, dict[str, dict]], list[dict]]: For each stage (name of its config) and split, what
        ``tools/test.py --json`` writes; and :func:`csrm_plugin.experiments.demo_labels.label_cards`.
    """
    if seed < 0:
        raise UserError(f'--seed must be at least 0, but is {seed}')
    begin = time.time()
    if quick:
        console.print('[yellow]--quick: a few iterations on a few small pictures; the scores mean nothing.[/yellow]')
    reports, scored, trained, checkpoint = {}, {}, [], None
    for number, config in enumerate(configs, start=1):
        stage = osp.splitext(osp.basename(config))[0]
        console.print(f'\n[bold]{number} of {len(configs)}: {config}[/bold]', highlight=False)
        folder = osp.join(work_dir, stage)
        options = {'randomness.seed': seed, **(quick_options(stage, work_dir) if quick else {})}
        start = dict(load_from=checkpoint) if checkpoint else {}
        checkpoint = train(config, {**options, **start}, folder, console)
        trained.append(Trained(config, checkpoint, data_options(options)))
        reports[stage] = {}
        for split in SPLITS:
            report, runner = score(config, checkpoint, options, folder, split)
            write_json(osp.join(work_dir, f'{stage}_{split}.json'), report)
            reports[stage][split] = report
        scored[stage] = runner
    console.print()
    console.print(comparison(reports))
    console.print(context_line(reports, seed), highlight=False)
    console.print(verdict(reports), style='bold')
    cards = label_cards(*trained, SPLITS, osp.join(work_dir, 'labels'), seed)
    console.print(baseline_verdict(cards), style='bold')
    sheet = osp.join(work_dir, 'contact_sheet.png')
    save_picture(sheet, demo_sheet(*scored.values()))
    console.print(f'Pictures: {sheet}\nCheckpoints, logs, scores: {work_dir}', highlight=False, soft_wrap=True)
    console.print(f'The demo took {(time.time() - begin) / 60:.1f} minutes.', highlight=False)
    return reports, cards


def quick_options(stage: str, work_dir: str) -> dict:
    """Overrides of a smoke run: few, small pictures in a folder of their own, few iterations."""
    size = (64, 64)  # width, height in pixels
    options = {'train_dataloader.batch_size': 8, 'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 1}
    for loader in LOADERS:
        options |= {
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
            f'{loader}.dataset.data_root': osp.join(work_dir, 'data_quick'),
            f'{loader}.dataset.image_size': size,
            f'{loader}.dataset.num_train': 16,
            f'{loader}.dataset.num_val': 4,
            f'{loader}.dataset.pipeline.1.scale': size,
        }
    if stage.startswith('csrm'):
        options |= {
            'model.pseudo_label.crf.workers': 0,
            'custom_hooks.0.iters': 2,
            'custom_hooks.0.ramp_iters': 0,
        }
    return options


def train(config: str, options: dict, folder: str, console: Console) -> str:
    """Train one stage with a progress line; the log goes to ``folder``. Gives the checkpoint's path."""
    cfg = prepare_training(config, cfg_options=options, work_dir=folder)
    # Who tries the demo wants no run of it among their own.
    cfg.visualizer.vis_backends = [item for item in cfg.visualizer.vis_backends if item['type'] != 'WSSSWandbBackend']
    runner = run_training(cfg, QuietRunner, [ProgressHook(console)])
    labeler = getattr(runner.model, 'labeler', None)
    if labeler is not None:  # the pool of dCRF
        labeler.close()
    with open(osp.join(folder, 'last_checkpoint')) as file:
        return file.read().strip()


def data_options(options: dict) -> dict:
    """Those of a training's overrides that say which pictures are scored, and how they are read."""
    return {key: value for key, value in options.items() if key.startswith('test_dataloader')}


def score(config: str, checkpoint: str, options: dict, folder: str, split: str) -> tuple[dict, Runner]:
    """Score a checkpoint on a split. Gives the report (see :func:`report_of`) and the runner."""
    options = {**data_options(options), **{key: options[key] for key in options if key.startswith('randomness')}}
    options['test_dataloader.dataset.ann_file'] = f'ImageSets/Segmentation/{split}.txt'
    cfg = prepare_testing(config, checkpoint, cfg_options=options, work_dir=folder)
    runner = QuietRunner.from_cfg(cfg)
    return report_of(runner, runner.test()), runner


class QuietRunner(Runner):
    """A Runner that shows only warnings in the terminal; its log file has everything."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As the host, but with a quiet terminal."""
        logger = super().build_logger(*args, **kwargs)
        terminal = logger.handlers[0]
        terminal.setLevel('WARNING')
        terminal.addFilter(lambda record: not any(text in record.getMessage() for text in HOST_CHATTER))
        return logger

    def load_checkpoint(self, *args, **kwargs) -> dict:
        """As the host, less the line that it prints."""
        with contextlib.redirect_stdout(io.StringIO()):
            return super().load_checkpoint(*args, **kwargs)


class ProgressHook(Hook):
    """A progress bar (on a terminal), and a line with mean losses and scores at each validation.

    Args:
        console (rich.console.Console): Where to print.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('iterations'),
            TimeRemainingColumn(),
        )
        self.console = console
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.losses: dict[str, list[float]] = {}

    def before_train(self, runner: Runner) -> None:
        """Show the bar."""
        self.progress.start()
        self.task = self.progress.add_task('training', total=runner.max_iters)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Move the bar on."""
        for name, value in (outputs or {}).items():
            if name.startswith('loss_'):
                self.losses.setdefault(name, []).append(float(value.detach()))
        self.progress.advance(self.task)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Print a line."""
        losses = '  '.join(f'{name[5:]} {np.mean(values):.2f}' for name, values in self.losses.items())
        scores = '  '.join(
            f'{name} {metrics[name]:.1f}' for name in ('cam/mIoU', 'pseudo/mIoU', 'seg/mIoU') if name in metrics
        )
        self.console.print(
            f'  epoch {runner.epoch:3d}/{runner.max_epochs}  losses: {losses}  |  val: {scores}',
            highlight=False,
            soft_wrap=True,
        )
        self.losses.clear()

    def after_train(self, runner: Runner) -> None:
        """Take the bar away."""
        self.progress.stop()


def comparison(reports: Reports) -> Table:
    """Table of the two stages of ``reports`` (see :func:`run_demo`), in percent."""
    (_, classifier), (_, csrm) = reports.items()
    table = Table(title='CAM classifier against CSRM, percent')
    for name in ('metric', 'split'):
        table.add_column(name)
    for name in ('CAM classifier', 'CSRM', 'gain'):
        table.add_column(name, justify='right')
    for metric, split in ROWS:
        before, after = classifier[split].get(metric), csrm[split].get(metric)
        cells = [_score_cell(report[split], metric) for report in (classifier, csrm)]
        gain = '' if before is None or after is None else f'{after - before:+.1f}  (x {after / max(before, 1e-6):.2f})'
        table.add_row(metric, split, *cells, gain)
    return table


def _score_cell(report: dict, metric: str) -> str:
    if report.get(metric) is None:
        return '-'
    return f'{report[metric]:.1f}' + (f' at {report["cam/threshold"]:.2f}' if metric == 'cam/mIoU' else '')


def context_line(reports: Reports, seed: int) -> str:
    """What the numbers of the table stand on."""
    sources = []
    for stage, splits in reports.items():
        pseudo = splits['val']['context']['pseudo_label']
        how = describe_source(pseudo['source'], pseudo.get('threshold'))
        sources.append(f'{stage} from the {how}')
    context = splits['val']['context']
    pictures = ' + '.join(str(splits[split]['context']['pictures']) for split in SPLITS)
    return (
        f'Seed {seed}; {pictures} synthetic pictures (train + val); scales {context["scales"]}, '
        f"{'with' if context['flip'] else 'no'} flip, no dCRF at inference; CSRM: the teacher's weights.\n"
        f'pseudo/mIoU: restricted to the image-level labels, {", ".join(sources)}. cam/mIoU: restricted likewise, at '
        'the best threshold, chosen with the masks. seg/mIoU: no labels given.'
    )


def verdict(reports: Reports) -> str:
    """One sentence on whether CSRM's pseudo labels for train are better than the classifier's."""
    before, after = (splits['train']['pseudo/mIoU'] for splits in reports.values())
    scores = f'mIoU of the pseudo labels for train: {before:.1f} by the classifier, {after:.1f} by CSRM'
    if after > before:
        return f'{scores}, {after / max(before, 1e-6):.2f} times as much.'
    return f'{scores}: CSRM did not improve on it.'


@torch.no_grad()
def demo_sheet(classifier: Runner, csrm: Runner) -> np.ndarray:
    """Sheet (H, W, 3), uint8, of the first test pictures of two runners: what either model makes of them."""
    dataset, models = csrm.test_dataloader.dataset, [runner.model.eval() for runner in (classifier, csrm)]
    rows = []
    for index in range(min(SHEET_PICTURES, len(dataset))):
        item = dataset[index]
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        # `test_step` writes into the data sample, so each model gets its own.
        before, after = (
            model.test_step(dict(batch, data_samples=[item['data_samples'].clone()]))[0] for model in models
        )
        rows.append(_sheet_row(before, after, models[1], dataset.metainfo))
    legend = list(zip(dataset.metainfo['classes'], dataset.metainfo['palette']))[1:]
    title = (
        f'CAM classifier and CSRM (teacher) on {osp.basename(dataset.ann_file)}: pictures that neither was trained on'
    )
    return draw_sheet(rows, title, legend, width=256)


def _sheet_row(before: SegDataSample, after: SegDataSample, csrm: torch.nn.Module, metainfo: dict) -> list[Panel]:
    """Panels of one picture, from the data samples of both models."""
    picture = read_rgb(after.img_path)
    labels = after.gt_image_labels.multi_hot[None].cpu()
    palette = metainfo['palette']
    cams = [F.normalize_cam(sample.cam_logits.data[None].cpu(), labels=labels) for sample in (before, after)]
    pseudo = csrm.training_labels(picture, after.cam_logits.data, labels[0]).numpy()
    predicted, truth = (value.data[0].cpu().numpy() for value in (after.pred_sem_seg, after.gt_sem_seg))
    names = ', '.join(name for name, there in zip(metainfo['classes'][1:], labels[0] > 0) if there)
    refined = refinement_title(csrm.labeler.refinement)
    return [
        Panel(picture, f'{after.img_id}: {names}'),
        Panel(overlay_cams(picture, cams[0][0].numpy(), palette), 'CAM of the classifier'),
        Panel(overlay_cams(picture, cams[1][0].numpy(), palette), 'CAM of CSRM'),
        Panel(overlay_labels(picture, pseudo, palette), f"CSRM's pseudo label (CAM, {refined}, labels given)"),
        Panel(overlay_labels(picture, predicted, palette), "CSRM's segmentation (no labels given)"),
        Panel(overlay_labels(picture, truth, palette), 'truth'),
    ]
