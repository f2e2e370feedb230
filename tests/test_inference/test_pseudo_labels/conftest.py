import pytest

from csrm_plugin.inference.pseudo_labels import make_pseudo_labels


@pytest.fixture
def make(root, demo_options, checkpoint_of, tmp_path):
    """Function: labels of the small demo data by a network with random weights."""

    def call(name='csrm_demo', out='out', **given):
        given.setdefault('workers', 0)
        given.setdefault('settings', dict(source='cam', threshold=0.3, scales=(0.5, 1), flip=True))
        config = str(root / 'mmcfg' / f'{name}.py')
        return make_pseudo_labels(config, checkpoint_of(name), str(tmp_path / out), cfg_options=demo_options, **given)

    return call
