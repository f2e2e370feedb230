"""Pictures of a run in the page itself: best, median and worst, and the fixed samples through training."""

import base64
import io
import json
import os
import os.path as osp
from collections.abc import Callable, Sequence

from PIL import Image

from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import count, is_number, number, percent, score_name
from csrm_plugin.report.page.markup import Ids, details, scrolling, tag
from csrm_plugin.report.runs.run import Run
from csrm_plugin.report.runs.sources import Group
from csrm_plugin.utils import UserError
from csrm_plugin.utils.label_sources import SOURCES
from csrm_plugin.utils.text import whose_weights

#: In pixels.
PANEL_WIDTH = 320
FRAME_WIDTH = 1000
#: Rows of panels in one report, over all runs: more would make the file large.
MAX_FRAMES = 54
MAX_SAMPLES = 3
#: Pictures of each role that are shown per run.
MAX_PER_ROLE = 2
_JPEG_QUALITY = 78
#: Panels of label maps: what a model learns from, and what is scored.
TRAINING, PSEUDO = 'training label', 'pseudo label'
_ROLES = {'best': 'Best', 'median': 'Median', 'worst': 'Worst'}


def data_uri(path: str | os.PathLike, width: int) -> str:
    """A picture as a ``data:`` address, scaled down to at most ``width`` pixels; photos as JPEG, flat ones as PNG.

    Raises:
        UserError: If the file is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert('RGB')
    except FileNotFoundError as error:
        raise UserError(f'picture `{path}` does not exist, though the record names it') from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that Pillow raises
        raise UserError(f'picture `{path}` cannot be read: {error}') from error
    if picture.width > width:
        picture = picture.resize((width, max(round(picture.height * width / picture.width), 1)), Image.LANCZOS)
    flat = picture.getcolors(64) is not None
    buffer = io.BytesIO()
    if flat:
        picture.save(buffer, 'PNG', optimize=True)
    else:
        picture.save(buffer, 'JPEG', quality=_JPEG_QUALITY, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/{"png" if flat else "jpeg"};base64,{text}'


def picture_section(
    ids: Ids, runs: Sequence[Run], shows_training_labels: Callable[[Run], bool] = lambda run: False
) -> layout.Section:
    """Pictures of the last validation by their scores, with their panels and a legend of the classes.

    Args:
        ids (Ids): Of the page.
        runs (Sequence[Run]): At least one.
        shows_training_labels (Callable[[Run], bool], optional): Whether the panels that an old record of a run calls
            ``pseudo label`` are what the model learnt from, as in those of a method from before that panel had a name
            of its own.
    """
    content, level = [], 'h3' if len(runs) == 1 else 'h4'
    for run in runs:
        items = (run.record.pictures or {}).get('items') or []
        shown = [item for role in _ROLES for item in [i for i in items if i.get('role') == role][:MAX_PER_ROLE]]
        if not shown:
            continue
        if len(runs) > 1:
            content.append(tag('h3', run.label))
        content.append(tag('p', _chosen_by(run), cls='note'))
        content.append(_panel_notes(run, shown, shows_training_labels(run)))
        content.append(_class_legend(run, {str(label) for item in shown for label in item.get('labels') or ()}))
        content.append(tag('div', [_item(run, item, level) for item in shown], cls='pictures'))
    return layout.Section('Pictures: best, median, worst', content)


def sample_section(ids: Ids, runs: Sequence[Run]) -> layout.Section:
    """The fixed pictures at each validation, with a control that goes through training."""
    runs = [run for run in runs if run.record.samples]
    content, level = [], 'h3' if len(runs) == 1 else 'h4'
    for run in runs:
        samples = dict(list(run.record.samples.items())[:MAX_SAMPLES])
        limit = max(MAX_FRAMES // (len(runs) * len(samples)), 2)
        every = sorted({step for frames in samples.values() for step, _ in frames})
        steps = _spread(every, limit)
        if len(runs) > 1:
            content.append(tag('h3', run.label))
        scrubber, broken = _scrubber(ids, samples, steps, level)
        content.append(scrubber)
        if broken:
            text = 'Left out, for it cannot be read (a run that was killed leaves such): '
            content.append(tag('p', text, [tag('code', f'{name} ') for name in broken], cls='note'))
        words = []
        if len(samples) < len(run.record.samples):
            words.append(f'{len(samples)} of {count(len(run.record.samples), "picture")}')
        if len(steps) < len(every):
            words.append(f'{len(steps)} of {count(len(every), "validation")}, evenly spread')
        if words:
            content.append(tag('p', f'Shown: {", ".join(words)}.', cls='note'))
    if content:
        text = (
            'The same validation pictures through training. From left to right: input, CAM, propagated CAM, training '
            'label or pseudo label, prediction, truth, as far as the run has them.'
        )
        content.insert(0, tag('p', text))
    return layout.Section('Pictures through training', content)


def sheet_section(group: Group | None) -> layout.Section:
    """The sheet of pictures that a demo leaves."""
    if group is None or not group.sheet:
        return layout.Section('Sheet of pictures', [])
    image = tag('img', src=data_uri(group.sheet, 1280), alt='Rows of panels: picture, CAMs, labels, prediction, truth')
    return layout.Section('Sheet of pictures', [tag('figure', image, cls='sheet')])


def _chosen_by(run):
    record = run.record.pictures
    score = score_name(f'{record.get("score")}/mIoU')
    iteration = record.get('iteration')
    context = next((v['context'] for v in run.validations if v['iteration'] == iteration), {})
    split = context.get('split') or 'validation'
    weights = f', {whose_weights(context["weights"])}' if context.get('weights') else ''
    return (
        f'Pictures of {split} with the highest, middle and lowest {score}, each over the classes in its mask or '
        f'its prediction, at iteration {number(iteration)}{weights}.'
    )


def _panel_notes(run, items, shows_training_labels):
    """What the panel with labels is, which is not the same for all models."""
    names = {panel.get('name') for item in items for panel in item.get('panels') or ()}
    old = TRAINING not in names and shows_training_labels
    lines = []
    if TRAINING in names or (PSEUDO in names and old):
        lines.append(
            f'The panel "{PSEUDO if old else TRAINING}" is what the model learns from: the CAM at two thresholds, '
            f'{_refined(run)}, with the pixels in between hatched as uncertain (255). It is not what '
            f'{score_name("pseudo/mIoU")} scores{_scored_labels(run)}.'
        )
    if PSEUDO in names and not old:
        lines.append(f'The panel "{PSEUDO}" is what {score_name("pseudo/mIoU")} scores{_scored_labels(run)}.')
    return [tag('p', line, cls='note') for line in lines]


def _refined(run):
    """How the labels that the model learns from were refined; records without ``refine`` are of dCRF."""
    refine = run.settings.get('model.pseudo_label.refine', 'crf')
    if refine == 'crf' and run.settings.get('model.pseudo_label.crf', {}) is not None:
        return 'refined with dCRF'
    return 'refined with PAR' if refine == 'par' else 'not refined'


def _scored_labels(run):
    context = run.validations[-1]['context'] if run.validations else {}
    source = context.get('pseudo_label') or {}
    name, threshold = SOURCES.get(source.get('source')), source.get('threshold')
    if name and is_number(threshold):
        return f': the {name} of the image labels, cut at {threshold:g}'
    return f': the {name}, with its classes restricted to the image labels' if name else ''


def _item(run, item, level):
    role, name, score = _ROLES.get(item.get('role'), ''), item.get('id', ''), item.get('score')
    labels = ', '.join(map(str, item.get('labels') or ()))
    panels = []
    for panel in item.get('panels') or ():
        path = osp.join(run.folder, 'record', str(panel.get('file', '')))
        alt = f'{panel.get("name", "")} of {name}'
        image = tag('img', src=data_uri(path, PANEL_WIDTH), alt=alt, loading='lazy')
        panels.append(tag('div', image, tag('span', panel.get('name', ''))))
    shown = percent(score) if is_number(score) else 'no score'
    heading = tag(level, tag('span', f'{role}: ', cls='role'), f'{shown} ', tag('code', name))
    text = tag('p', f'Image labels: {labels or "none"}.', cls='note')
    return tag('figure', heading, text, tag('div', panels, cls='panels'))


def _class_legend(run, labels):
    """Colours of the classes that are shown; all others folded away."""
    names, colours = run.info.get('classes') or [], run.info.get('palette') or []
    entries = [(str(name), colour) for name, colour in zip(names, colours)]
    if not entries:
        return None
    first = [entry for index, entry in enumerate(entries) if index == 0 or entry[0] in labels]
    unsure = tag('li', tag('i', cls='unsure'), 'uncertain (255)')
    rest = [entry for entry in entries if entry not in first]
    shown = tag('ul', [_chip(*entry) for entry in first], unsure, cls='legend')
    more = details('Colours of the other classes', tag('ul', [_chip(*entry) for entry in rest], cls='legend'))
    return tag('div', shown, more if rest else None)


def _chip(name, colour):
    red, green, blue = (max(0, min(255, int(value))) for value in colour[:3])
    return tag('li', tag('i', style=f'background:rgb({red},{green},{blue})'), name)


def _spread(steps, limit):
    """At most ``limit`` of the steps, evenly spread, with the first and the last."""
    if len(steps) <= limit:
        return steps
    return [steps[round(index * (len(steps) - 1) / (limit - 1))] for index in range(limit)]


def _scrubber(ids, samples, steps, level):
    """The frames with their control, and the names of those that cannot be read."""
    figures, broken, shown = [], [], set()
    for name, drawings in samples.items():
        kept, unread = _read_frames([(step, path) for step, path in drawings if step in steps] or drawings[-1:])
        broken += unread
        shown |= {step for step, _ in kept}
        images = []
        for index, (step, uri) in enumerate(kept):
            alt = f'{name} at iteration {step}: panels side by side'
            images.append(tag('img', src=uri, alt=alt, data_step=step, hidden=index < len(kept) - 1))
        if images:
            box = scrolling(tag('div', images, cls='frames'), f'Panels of {name}')
            figures.append(tag('figure', tag(level, tag('code', name)), box))
    if not figures:
        return None, broken
    steps, name = sorted(shown), ids('scrub')
    control = tag(
        'div',
        tag('label', 'Iteration', for_=name),
        tag('input', type='range', id=name, min=0, max=len(steps) - 1, value=len(steps) - 1, step=1),
        tag('output', f'iteration {steps[-1]}', for_=name),
        cls='scrub',
        hidden=True,
    )
    return tag('div', control, tag('div', figures, cls='pictures'), data_scrub=json.dumps(steps)), broken


def _read_frames(drawings):
    """Step and ``data:`` address of each drawing, and the names of those that cannot be read."""
    frames, broken = [], []
    for step, path in drawings:
        try:
            frames.append((step, data_uri(path, FRAME_WIDTH)))
        except UserError:  # half-written
            broken.append(osp.basename(path))
    return frames, broken
