import pytest
import yaml

from csrm_plugin.config.load import load_config
from csrm_plugin.experiments.pipeline.recipes import STAGE_KEYS, load_recipe
from csrm_plugin.report.paper.published import TABLE_2
from csrm_plugin.utils import MissingFileError, UserError

DATA_SETS = ('demo', 'msrc', 'voc_animals', 'voc', 'coco')

RECIPE = dict(
    dataset='demo',
    config='mmcfg/csrm_demo.py',
    splits=['train', 'val'],
    stages=[
        dict(name='data', kind='data', config='mmcfg/csrm_demo.py'),
        dict(name='classifier', kind='train', config='mmcfg/cam_demo.py'),
        dict(name='labels', kind='labels', model='classifier', source='cam'),
        dict(name='verify', kind='verify', config='x.py', labels='labels'),
        dict(name='bound', kind='verify', config='x.py', labels='truth'),
        dict(name='table', kind='table'),
    ],
)


@pytest.fixture
def read(tmp_path, root):
    def call(**changes):
        (tmp_path / 'own.yaml').write_text(yaml.safe_dump({**RECIPE, **changes}))
        return load_recipe(str(tmp_path / 'own.yaml'), str(root))

    return call


def test_stages_know_what_they_stand_on(read):
    recipe = read()
    assert recipe.name == 'own' and recipe.train_split == 'train' and recipe.seed == 0 and not recipe.resume
    needs = {stage.name: stage.needs for stage in recipe.stages}
    assert needs['data'] == () and needs['classifier'] == ('data',)
    assert needs['labels'] == ('data', 'classifier') and needs['verify'] == ('data', 'labels')
    assert needs['bound'] == ('data',)  # the true masks are no stage
    assert needs['table'] == ('data', 'classifier', 'labels', 'verify', 'bound')
    assert recipe.label_splits == dict(train='train', val='val')
    assert read(train_split='train_aug').label_splits == dict(train='train_aug', val='val')


def stages(*changed):
    return [*RECIPE['stages'][:2], *changed]


def labels(**options):
    return dict(stages=stages({**dict(name='x', kind='labels', model='classifier', source='cam'), **options}))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(sed=1), 'the pipeline has the unknown key `sed`; did you mean `seed`'),
        (dict(stages=stages(dict(name='x', kind='trian'))), "`kind` of .* 'trian'; did you mean `train`"),
        (dict(stages=RECIPE['stages'][1:]), 'the first stage must be of the kind `data`'),
        (
            dict(stages=stages(dict(name='x', kind='refined', of='classifier'))),
            '`of` .* kind labels, but `classifier` is',
        ),
        (
            dict(stages=[*RECIPE['stages'][:3], dict(name='x', kind='refined', of='labels')]),
            'makes no labels with dCRF',
        ),
        (dict(splits='train'), "`splits` of the pipeline has a value of the wrong type: 'train'"),
        (dict(stages=['data']), '`stages` must be a list of mappings'),
        (dict(splits=[]), '`splits` of the pipeline names no list'),
        (
            dict(stages=stages(dict(name='x', kind='train', config='c.py', options=['a']))),
            r"`options` of stage `x` must be a dict, but is \['a'\]",
        ),
        (dict(stages=stages(dict(name='x', kind='train'))), 'stage `x` lacks the key `config`'),
        (dict(stages=stages(dict(name='x', kind='refined', of='nothing'))), '`x` stands on `nothing`, which does not'),
        (dict(stages=stages(dict(name='data', kind='table'))), 'two stages are named `data`'),
        (
            dict(stages=stages(dict(name='x', kind='labels', model='classifier', source='cam', scale=[1]))),
            'stage `x` has the unknown key `scale`; did you mean `scales`',
        ),
        (labels(threshold='besst'), "`threshold` of stage `x` must be a number or `best`, but is 'besst'"),
        (labels(threshold='best', fallback=0.3), 'stage `x` lacks the key `choose_on`: with `threshold: best`'),
        (labels(threshold='best', choose_on='val'), 'stage `x` lacks the key `fallback`'),
        (labels(threshold=0.3, fallback=0.3), '`fallback` of stage `x` needs `threshold: best`'),
        (labels(choose_on='val'), '`choose_on` of stage `x` needs `threshold: best`'),
        (
            labels(source='seg', threshold='best', choose_on='val', fallback=0.3),
            '`threshold: best` of stage `x` is for CAMs, not for `seg`',
        ),
    ],
)
def test_mistakes_are_named(read, changes, message):
    with pytest.raises(UserError, match=message):
        read(**changes)


def test_files_that_are_no_pipeline_are_told(tmp_path, root):
    with pytest.raises(MissingFileError, match='there is no pipeline `nosuch`'):
        load_recipe('nosuch', str(root))
    for text in ('a: [', '- 1'):
        (tmp_path / 'x.yaml').write_text(text)
        with pytest.raises(UserError, match=r'pipeline `.*x\.yaml` (is no YAML|must be a mapping)'):
            load_recipe(str(tmp_path / 'x.yaml'), str(root))
    with pytest.raises(UserError, match='has no stage `csmr`; did you mean `csrm`'):
        load_recipe('demo', str(root)).stage('csmr')


@pytest.mark.parametrize('name', [f'{method}{data}' for method in ('', 'rml_') for data in DATA_SETS])
def test_the_pipelines_of_the_project_name_configs_that_are_there(name, root):
    recipe = load_recipe(name, str(root))
    assert {stage.kind for stage in recipe.stages} <= set(STAGE_KEYS)
    for stage in recipe.stages:
        if 'config' in stage.options:
            load_config(str(root / stage.options['config']))
    names = {stage.name for stage in recipe.stages}
    wanted = {'data', 'rml', 'labels_rml_cam', 'labels_rml', 'labels_rml_crf', 'verify_rml', 'verify_masks', 'table'}
    if not name.startswith('rml'):
        rows = {row['stage'] for row in TABLE_2}
        if name == 'voc_animals':  # without SAM's masks, and superpixels are none
            rows = {row for row in rows if 'sepl' not in row}
        wanted = {'data', 'classifier', 'csrm', 'table', *rows}
        wanted |= {'verify_cam', 'verify_csrm', 'verify_masks'}
    assert wanted <= names


@pytest.mark.parametrize('name', [f'{method}{data}' for method in ('', 'rml_') for data in DATA_SETS])
def test_the_plain_baseline_has_the_views_of_the_method_a_chosen_threshold_and_dcrf(name, root):
    recipe = load_recipe(name, str(root))
    cam, crf, trained = ('labels_cam', 'labels_cam_crf', 'verify_cam')
    if name.startswith('rml'):
        cam, crf, trained = ('labels_rml_cam', 'labels_rml_cam_crf', 'verify_rml_cam')
    baseline = recipe.stage(cam).options
    assert (baseline['threshold'], baseline['choose_on']) == ('best', 'val') and 0 < baseline['fallback'] < 1
    assert recipe.stage(crf).options['of'] == cam and recipe.choice_splits == ('val',)
    assert recipe.stage(trained).options['labels'] == crf
    if not name.startswith('rml'):  # RML sees its scales by itself
        method = recipe.stage('labels_csrm').options
        assert (baseline['scales'], baseline['flip']) == (method['scales'], method['flip'])
        networks = [recipe.stage(stage).options for stage in (trained, 'verify_csrm')]
        assert len({repr({**options, 'labels': None}) for options in networks}) == 1


@pytest.mark.parametrize('data', DATA_SETS)
def test_the_plain_cams_beside_propagated_ones_have_the_same_views(data, root):
    recipe = load_recipe(f'rml_{data}', str(root))
    plain, propagated = (recipe.stage(name).options for name in ('labels_rml_cam', 'labels_rml'))
    settings = load_config(str(root / recipe.config)).model.test_cfg
    assert (tuple(plain['scales']), plain['flip']) == (tuple(settings.scales), settings.flip)
    assert propagated['scales'] == [1] and not propagated.get('flip')


def test_an_unknown_source_of_labels_is_refused(root, tmp_path):
    text = (root / 'mmcfg' / 'pipelines' / 'demo.yaml').read_text().replace('source: seg', 'source: segm')
    (tmp_path / 'x.yaml').write_text(text)
    with pytest.raises(UserError, match="`labels_csrm` must be one of cam, seg, propagated, but is 'segm'"):
        load_recipe(str(tmp_path / 'x.yaml'), str(root))
