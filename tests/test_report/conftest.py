"""Folders of runs, pipelines and sweeps as the tools leave them, with made-up numbers; and a reader of pages."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ['background', 'dog', 'sofa', 'boat']
PALETTE = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [0, 0, 128]]
PANELS = ('input', 'CAM', 'pseudo label', 'prediction', 'truth')
THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 20)]
SETTINGS = {
    'model.type': 'CSRM',
    'model.loss_s.type': 'PseudoLabelLoss',
    'model.loss_u.loss_weight': 1.0,
    'model.pseudo_label.fg_threshold': 0.15,
    'optim_wrapper.optimizer.lr': 0.01,
    'train_dataloader.dataset.type': 'SyntheticWSSSDataset',
    'randomness.seed': 0,
}
VOID = {'br', 'hr', 'img', 'input', 'link', 'meta'}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def cam_scores(top, centre=0.3):
    """CAM mIoU at 19 thresholds, in percent: highest at ``centre``."""
    return {f'cam/mIoU@{t:.2f}': round(top * math.exp(-((t - centre) ** 2) / 0.08), 4) for t in THRESHOLDS}


def validation(step, score, seed=0, split='val', **more):
    cam = cam_scores(0.8 * score)
    metrics = {
        'cam/mIoU': max(cam.values()),
        'cam/threshold': 0.3,
        **cam,
        'seg/mIoU': score,
        'pseudo/mIoU': 0.9 * score,
        'seg/foreground': 30.0,
        'cls/mAP': 95.0,
    }
    iou = {'background': 80.0, 'dog': 1.1 * score, 'sofa': 41.0, 'boat': None}
    parts = {part: {'mIoU': metrics[f'{part}/mIoU'], 'iou': iou} for part in ('seg', 'pseudo', 'cam')}
    context = dict(
        split=split,
        ann_file=f'ImageSets/Segmentation/{split}.txt',
        pictures=48,
        scales=[1.0],
        flip=False,
        crf=False,
        weights='teacher',
        seed=seed,
        cam_threshold_chosen_with_masks=True,
        pseudo_label={'source': 'cam', 'threshold': 0.15},
    )
    return dict(
        iteration=step, epoch=step // 10, metrics={**metrics, **more}, parts=parts, context=context, pictures=[]
    )


def training_line(step, total, seed=0, **more):
    part = step / total
    wave = 0.05 * math.sin(step + seed)
    return {
        'lr': 0.01 * (1 - part),
        'loss': 2 * math.exp(-2 * part) + wave,
        'loss_s': 1.9 * math.exp(-2 * part) + wave,
        'reliable/s': 0.9 + wave,
        'time': 0.5,
        'epoch': 1,
        'iter': step,
        'step': step,
        **more,
    }


def build_run(folder, name='csrm_demo', seed=0, score=50.0, iterations=60, record=True, settings=None, **run):
    """A finished run; ``score`` is the last ``seg/mIoU``, which was five points better at the middle validation."""
    lines = [training_line(step, iterations, seed) for step in range(10, iterations + 1, 10)]
    steps = [iterations // 3, 2 * iterations // 3, iterations]
    validations = [validation(*pair, seed) for pair in zip(steps, (score - 20, score + 5, score))]
    log = folder / '20261122_101112' / 'vis_data'
    log.mkdir(parents=True)
    val_lines = [{**item['metrics'], 'time': 0.1, 'step': item['iteration']} for item in validations]
    text = '\n'.join(json.dumps(line) for line in sorted([*lines, *val_lines], key=lambda line: line['step']))
    (log / 'scalars.json').write_text(text + '\n')
    if not record:
        return folder
    content = dict(
        format=1,
        status='finished',
        reason=None,
        config=f'mmcfg/{name}.py',
        name=name,
        seed=seed,
        settings={**SETTINGS, 'randomness.seed': seed, **(settings or {})},
        classes=CLASSES,
        palette=PALETTE,
        log_dirs=['20261122_101112'],
        iteration=iterations,
        iterations=iterations,
        epochs=iterations // 10,
        started='2026-11-22T10:11:12+00:00',
        finished='2026-11-22T10:15:12+00:00',
        cost=dict(
            seconds=221.4,
            train_seconds=180.0,
            val_seconds=30.0,
            images_per_second=31.26,
            peak_memory_mib={'host': 1495.8, 'gpu': None},
            processes=1,
            device='cpu',
            parameters=11_700_000,
        ),
        versions={'python': '3.11.7', 'torch': '2.13.0'},
        git={'revision': 'abcdef0123456789', 'dirty': False},
        sources={'train_dataloader.dataset.data_root': 'data/demo'},
        load_from=None,
        checkpoint='epoch_6.pth',
        best={},
    )
    write(folder / 'record' / 'run.json', {**content, **run})
    for item in validations:
        write(folder / 'record' / f'validation_{item["iteration"]:07d}.json', item)
    return folder


def build_pictures(folder, size=(40, 30), scores=(90.0, 50.0, 5.0), steps=(20, 40, 60), samples=('s1', 's2')):
    """Pictures of a run: best, median and worst, and two fixed samples through training."""
    generator = np.random.default_rng(0)
    items = []
    for role, score in zip(('best', 'median', 'worst'), scores):
        panels = []
        for panel in PANELS:
            path = folder / 'record' / 'pictures' / f'{role}_{panel.replace(" ", "_")}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            flat = np.full((*size[::-1], 3), 90, np.uint8)
            Image.fromarray(generator.integers(0, 255, flat.shape, np.uint8) if panel == 'input' else flat).save(path)
            panels.append({'name': panel, 'file': f'pictures/{path.name}'})
        items.append(dict(role=role, id=f'img_{role}', score=score, labels=['dog'], panels=panels))
    write(folder / 'record' / 'pictures.json', dict(iteration=60, score='seg', items=items))
    images = folder / '20261122_101112' / 'vis_data' / 'vis_image'
    images.mkdir(parents=True)
    for sample in samples:
        for step in steps:
            shade = np.full((size[1], 5 * size[0], 3), step % 256, np.uint8)
            Image.fromarray(shade).save(images / f'sample_{sample}_{step}.png')
    return folder


def build_sweep(folder, trials, parameters, metric='pseudo/mIoU', **more):
    """A sweep; ``trials`` are dicts with at least ``params`` and ``value``."""
    full = []
    for index, trial in enumerate(trials):
        value = trial.get('value')
        curve = [] if value is None else [[20, value - 10], [40, value - 4], [60, value]]
        full.append(
            dict(
                dict(
                    number=index,
                    state='complete',
                    iteration=60,
                    curve=curve,
                    reason=None,
                    seconds=30.0 + index,
                    folder=f'trial_{index:04d}',
                    attempt=1,
                ),
                **trial,
            )
        )
    content = dict(
        format=1,
        name='delta_fg',
        yaml='sweeps/delta_fg.yaml',
        config='mmcfg/csrm_demo.py',
        cfg_options={},
        method='grid',
        metric={'name': metric, 'goal': 'maximize'},
        parameters=parameters,
        notes=[],
        trials=full,
        best=None,
        importances=None,
    )
    write(folder / 'sweep.json', {**content, **more})
    return folder


def build_pipeline(folder):
    """A pipeline with a classifier, CSRM (whose training is there, without a record) and CAM labels; no table."""
    context = dict(scales=[1.0], flip=False, crf=False, weights='teacher', source='cam', threshold=0.5)
    scores = {
        'classifier': ('train', {'train': {'cam/mIoU': 40.05, 'cam/threshold': 0.5}}),
        'csrm': ('train', {'train': {'seg/mIoU': 47.56, 'pseudo/mIoU': 48.71}}),
        'labels_cam': ('labels', {split: {'miou': value} for split, value in (('train', 43.21), ('val', 41.32))}),
    }
    for number, (stage, (kind, found)) in enumerate(scores.items(), start=1):
        method = 'CSRM' if stage == 'csrm' else 'CAMClassifier'
        config = {'file': f'mmcfg/{stage}_msrc.py', 'settings': {'model.type': method}}
        write(
            folder / stage / 'card.json',
            dict(
                stage=stage,
                kind=kind,
                run='msrc',
                number=number,
                status='done',
                seed=0,
                dataset='msrc',
                scores=found,
                context=context,
                config=config,
                time={'seconds': 60.0 * number, 'images_per_second': 2.5},
                memory={'peak_mib': 800.0 + number},
                host={'cpus': 2, 'gpus': []},
            ),
        )
    build_run(folder / 'csrm' / 'train', record=False)
    return folder


class Page(HTMLParser):
    """A page as tags and text.

    Attributes:
        source (str): The file.
        tags (list[tuple[str, dict, tuple]]): Start tags with their attributes and the tags around them, outermost
            first, each as (name, attributes).
        text (str): All text but scripts and styles, with single blanks between words.
        tables (dict[str, list[list[str]]]): Caption to cells, row by row.
    """

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding='utf-8')
        self.tags, self.tables, self._open, self._words, self._table = [], {}, [], [], None
        self.feed(self.source)
        self.close()
        assert not self._open, f'not closed: {self._open}'
        self.text = ' '.join(''.join(self._words).split())

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f'{tag} has an attribute twice: {names}'
        self.tags.append((tag, dict(attributes), tuple(self._open)))
        if tag not in VOID:
            self._open.append((tag, dict(attributes)))
        if tag == 'table':
            self._table = []
        elif tag == 'tr':
            self._table.append([])
        elif tag in ('td', 'th'):
            self._table[-1].append('')
        # Blocks end words, inline elements do not.
        if tag in ('p', 'div', 'td', 'th', 'li', 'h2', 'h3', 'h4', 'text', 'desc', 'title', 'svg', 'figure'):
            self._words.append(' ')

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self._open)))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, f'{tag} is closed within {[name for name, _ in self._open]}'
        self._open.pop()
        if tag == 'table':
            self.tables[self._caption] = self._table

    def handle_data(self, data):
        around = [name for name, _ in self._open]
        if not around or around[-1] in ('script', 'style'):
            return
        self._words.append(data)
        if 'caption' in around:
            self._caption = data
        elif 'td' in around or 'th' in around:
            self._table[-1][-1] += data

    def all(self, tag, **attributes):
        """Attributes of all start tags that have these."""
        return [found for name, found, _ in self.tags if name == tag and attributes.items() <= found.items()]

    def table(self, start):
        """The only table whose caption begins so."""
        (found,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return found

    def check(self):
        """What every report must be: self-contained, with unique ids, readable without eyes, and fit for a phone."""
        attributes = [pair for _, found, _ in self.tags for pair in found.items()]
        for name, value in attributes:
            if name in ('src', 'href', 'xlink:href', 'srcset', 'action'):
                assert value.startswith(('data:', '#')), (name, value[:80])
        assert '@import' not in self.source and not re.search(r'url\((?!#)', self.source)
        assert not self.all('iframe') and all('src' not in found for found in self.all('script'))
        ids = [value for name, value in attributes if name == 'id']
        assert len(set(ids)) == len(ids), 'an id stands twice'
        used = [value[1:] for name, value in attributes if name == 'href' and value.startswith('#')]
        used += [part for name, value in attributes if name == 'aria-labelledby' for part in value.split()]
        used += [value for name, value in attributes if name == 'for']
        used += re.findall(r'url\(#([^)]+)\)', self.source)
        assert set(used) <= set(ids), set(used) - set(ids)
        assert self.all('html', lang='en') and self.all('meta', name='viewport')
        self._check_structure()
        return self

    def _check_structure(self):
        levels = [int(name[1]) for name, _, _ in self.tags if name in ('h1', 'h2', 'h3', 'h4')]
        assert levels.count(1) == 1 and all(after - before <= 1 for before, after in zip([0, *levels], levels)), levels
        assert all(found.get('alt') for found in self.all('img'))
        assert all(found.get('scope') for found in self.all('th'))
        for name, found, around in self.tags:
            if name == 'table':  # a wide one scrolls in a box of its own, which the keyboard reaches
                assert any('scroll' in box.get('class', '').split() and box.get('tabindex') == '0' for _, box in around)
            if name == 'svg' and found.get('class') == 'chart':
                assert found['role'] == 'img' and 'width' not in found


@pytest.fixture
def build():
    """What makes folders, by name."""
    return dict(
        run=build_run,
        pictures=build_pictures,
        sweep=build_sweep,
        pipeline=build_pipeline,
        validation=validation,
        training_line=training_line,
        write=write,
    )


@pytest.fixture
def read_page():
    """Reads a page and checks what every report must be."""
    return lambda path: Page(Path(path)).check()
