"""Pipelines as data: YAML files that name the stages of a run."""

import os.path as osp
from dataclasses import dataclass, field

import yaml

from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.label_sources import CAM_SOURCES, SOURCES
from csrm_plugin.utils.spelling import did_you_mean

#: Keys of a stage by its kind; those with True must be there. ``name``, ``kind`` and ``optional`` go with every kind.
STAGE_KEYS = {
    'data': {'config': True},
    'train': {'config': True, 'start': False, 'options': False},
    'labels': {
        'model': True,
        'source': True,
        'scales': False,
        'flip': False,
        'threshold': False,
        'choose_on': False,
        'fallback': False,
        'crf': False,
        'crf_options': False,
        'save_cams': False,
        'options': False,
    },
    'refined': {'of': True},
    'masks': {'generator': True, 'options': False},
    'sepl': {'labels': True, 'masks': True},
    'verify': {
        'config': True,
        'labels': True,
        'scales': False,
        'flip': False,
        'crf_options': False,
        'start': False,
        'options': False,
    },
    'export': {'model': True, 'split': True, 'scales': False, 'flip': False, 'crf': False},
    'table': {},
}
#: Keys of a pipeline; those with True must be there.
RECIPE_KEYS = {
    'dataset': True,
    'config': True,
    'splits': True,
    'stages': True,
    'seed': False,
    'resume': False,
    'environment': False,
    'train_split': False,
}
#: What kinds of stage a key may name.
REFERENCES = {
    'model': ('train', 'verify'),
    'start': ('train', 'verify'),
    'of': ('labels',),
    'labels': ('labels', 'refined', 'sepl'),
    'masks': ('masks',),
}
#: Types that values must have.
TYPES = {
    'splits': list,
    'scales': list,
    'options': (dict, list),
    'crf_options': dict,
    'environment': dict,
    'seed': int,
    'flip': bool,
    'crf': bool,
    'save_cams': bool,
    'resume': bool,
    'optional': bool,
    'threshold': (int, float, str),
    'choose_on': str,
    'fallback': (int, float),
}
#: Value of ``threshold`` of CAMs that is no number: the one that scores best on the split ``choose_on``, or
#: ``fallback`` where that has no masks.
BEST = 'best'
#: Values of ``verify``'s ``labels`` that is no stage: the true masks, for the upper bound.
TRUTH = 'truth'


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
        name (str): Also the name of its folder.
        kind (str): One of :data:`STAGE_KEYS`.
        number (int): Its place, from 1.
        options (dict): What the YAML says beyond.
        needs (tuple[str, ...]): Names of the stages that it stands on.
    """

    name: str
    kind: str
    number: int
    options: dict = field(hash=False)
    needs: tuple = ()


@dataclass(frozen=True)
class Recipe:
    """A pipeline.

    Attributes:
        name (str): Of the file.
        dataset (str): ``voc``, ``coco``, ``msrc``, ``voc_animals``, ``demo`` or a name of one's own.
        config (str): Config whose test data set all stages are scored on.
        splits (tuple[str, ...]): Names of the lists that are scored, that of the training first.
        train_split (str): List that verification networks train on; holds all of the first of ``splits``, and is it
            by default.
        stages (tuple[StageSpec, ...]): In order.
        seed (int): Of all trainings.
        resume (bool): Whether an interrupted training goes on from its last checkpoint (its numbers then differ a
            little from those of one in a piece) instead of starting again.
        environment (dict): Variable to the files that it is set to if it is unset: the first that exists.
    """

    name: str
    dataset: str
    config: str
    splits: tuple
    stages: tuple
    train_split: str = ''
    seed: int = 0
    resume: bool = False
    environment: dict = field(default_factory=dict, hash=False)

    @property
    def choice_splits(self) -> tuple[str, ...]:
        """Splits that thresholds are chosen on."""
        return tuple(dict.fromkeys(s.options['choose_on'] for s in self.stages if 'choose_on' in s.options))

    @property
    def label_splits(self) -> dict[str, str]:
        """Split that is scored to the split whose folder of labels holds it."""
        return {split: self.train_split if index == 0 else split for index, split in enumerate(self.splits)}

    def stage(self, name: str) -> StageSpec:
        """The stage of that name.

        Raises:
            UserError: If there is none; names the nearest.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(
            f'pipeline {self.name} has no stage `{name}`{did_you_mean(name, [s.name for s in self.stages])}'
        )


def load_recipe(name: str, root: str) -> Recipe:
    """Read a pipeline.

    Args:
        name (str): Name of a file in ``mmcfg/pipelines`` of the project, or the path of a YAML file.
        root (str): Folder of the project.

    Raises:
        MissingFileError: If there is no such pipeline.
        UserError: If a key is unknown or missing, or a stage stands on one that does not come before it.
    """
    folder = osp.join(root, 'mmcfg', 'pipelines')
    path = name if osp.splitext(name)[1] in ('.yaml', '.yml') else osp.join(folder, f'{name}.yaml')
    if not osp.isfile(path):
        raise MissingFileError(f'there is no pipeline `{name}` ({path} does not exist)')
    try:
        with open(path) as file:
            content = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise UserError(f'pipeline `{path}` is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise UserError(f'pipeline `{path}` must be a mapping with the keys {", ".join(RECIPE_KEYS)}')
    _check_keys(path, 'the pipeline', content, RECIPE_KEYS)
    stages = _stages(path, content.pop('stages'))
    if not content['splits']:
        raise UserError(f'pipeline `{path}`: `splits` of the pipeline names no list; it needs that of the training')
    content['splits'] = tuple(content['splits'])
    content.setdefault('train_split', content['splits'][0])
    return Recipe(name=osp.splitext(osp.basename(path))[0], stages=stages, **content)


def _stages(path, entries):
    stages: list[StageSpec] = []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f'pipeline `{path}`: `stages` must be a list of mappings with `name` and `kind`')
    for number, entry in enumerate(entries, start=1):
        options = dict(entry)
        name, kind = options.pop('name', None), options.pop('kind', None)
        if not name or kind not in STAGE_KEYS:
            raise UserError(
                f'pipeline `{path}`: stage {number} needs a `name`, and a `kind` of {", ".join(STAGE_KEYS)}, but has '
                f'{name!r} and {kind!r}{did_you_mean(str(kind), STAGE_KEYS)}'
            )
        known = {stage.name: stage for stage in stages}
        if name in known:
            raise UserError(f'pipeline `{path}`: two stages are named `{name}`')
        _check_keys(path, f'stage `{name}`', options, {**STAGE_KEYS[kind], 'optional': False})
        _check_threshold(path, f'stage `{name}`', options)
        wanted = list if kind == 'masks' else dict  # arguments of a tool, or settings of a config
        if not isinstance(options.get('options', wanted()), wanted):
            raise UserError(
                f'pipeline `{path}`: `options` of stage `{name}` must be a {wanted.__name__}, but is '
                f'{options["options"]!r}'
            )
        needs = [
            _reference(path, name, key, options[key], known)
            for key in REFERENCES
            if key in options and not (kind == 'verify' and options[key] == TRUTH)
        ]
        data = [stage.name for stage in stages if stage.kind == 'data']
        needs = list(known) if kind == 'table' else [*data, *needs]
        stages.append(StageSpec(name, kind, number, options, tuple(dict.fromkeys(needs))))
    if not stages or stages[0].kind != 'data':
        raise UserError(f'pipeline `{path}`: the first stage must be of the kind `data`: all others stand on it')
    return tuple(stages)


def _reference(path, name, key, need, known):
    """The name of the stage that ``key`` of stage ``name`` refers to, checked."""
    if need not in known:
        raise UserError(f'pipeline `{path}`: stage `{name}` stands on `{need}`, which does not come before it')
    if known[need].kind not in REFERENCES[key]:
        raise UserError(
            f'pipeline `{path}`: `{key}` of stage `{name}` must name a stage of the kind '
            f'{" or ".join(REFERENCES[key])}, but `{need}` is of the kind {known[need].kind}'
        )
    if key == 'of' and not known[need].options.get('crf'):
        raise UserError(f'pipeline `{path}`: `of` of stage `{name}`: `{need}` makes no labels with dCRF (`crf: true`)')
    return need


def _check_threshold(path, where, options):
    """Raise unless a threshold that is chosen is one of CAMs, and says where it is chosen and what it is otherwise."""
    threshold, chosen = options.get('threshold'), ('choose_on', 'fallback')
    if threshold == BEST and options['source'] not in CAM_SOURCES:
        raise UserError(f'pipeline `{path}`: `threshold: best` of {where} is for CAMs, not for `{options["source"]}`')
    if isinstance(threshold, str) and threshold != BEST:
        raise UserError(f'pipeline `{path}`: `threshold` of {where} must be a number or `{BEST}`, but is {threshold!r}')
    for key in chosen:
        if threshold == BEST and key not in options:
            raise UserError(
                f'pipeline `{path}`: {where} lacks the key `{key}`: with `threshold: best`, `choose_on` names a split '
                'with masks, and `fallback` is the threshold where it has none'
            )
        if threshold != BEST and key in options:
            raise UserError(f'pipeline `{path}`: `{key}` of {where} needs `threshold: {BEST}`')


def _check_keys(path, where, content, keys):
    for key in content:
        if key not in keys:
            raise UserError(f'pipeline `{path}`: {where} has the unknown key `{key}`{did_you_mean(key, keys)}')
        if key in TYPES and (
            not isinstance(content[key], TYPES[key]) or (isinstance(content[key], bool) and TYPES[key] is not bool)
        ):
            raise UserError(f'pipeline `{path}`: `{key}` of {where} has a value of the wrong type: {content[key]!r}')
    if content.get('source', 'cam') not in SOURCES:
        raise UserError(
            f'pipeline `{path}`: `source` of {where} must be one of {", ".join(SOURCES)}, but is {content["source"]!r}'
        )
    for key, wanted in keys.items():
        if wanted and key not in content:
            raise UserError(f'pipeline `{path}`: {where} lacks the key `{key}`')
