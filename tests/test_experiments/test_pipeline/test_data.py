from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.experiments.pipeline.data import RunData
from csrm_plugin.experiments.pipeline.recipes import load_recipe


def test_masks_are_there_if_every_picture_of_the_list_has_one(root, tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    data = RunData(load_recipe('demo', str(root)), str(root / 'mmcfg' / 'csrm_demo.py'))
    assert data.has_masks('val')  # nothing is drawn yet: a dry run takes them for granted
    ensure_synthetic(str(tmp_path / 'data'), image_size=(32, 32), num_train=2, num_val=2, seed=0)
    assert data.has_masks('train') and data.has_masks('val')
    next((tmp_path / 'data' / 'SegmentationClass').glob('val*.png')).unlink()
    assert data.has_masks('train') and not data.has_masks('val')


def test_a_split_that_only_chooses_a_threshold_is_one_of_the_run(root, tmp_path, monkeypatch):
    text = (root / 'mmcfg' / 'pipelines' / 'demo.yaml').read_text()
    path = tmp_path / 'own.yaml'
    path.write_text(
        text.replace('splits: [train, val]', 'splits: [train]').replace('choose_on: val', 'choose_on: held')
    )
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    data = RunData(load_recipe(str(path), str(root)), str(root / 'mmcfg' / 'csrm_demo.py'))
    assert data.splits == ['train', 'held']
