import pytest

from csrm_plugin.inference.audit_labels import audit_labels


@pytest.fixture
def audit(root, demo_options, checkpoint_of):
    """Function: audit of a network with random weights on the small demo data."""

    def call(name='csrm_demo', checkpoint=None, options=(), **given):
        given.setdefault('workers', 0)
        given.setdefault('device', 'cpu')
        config = str(root / 'mmcfg' / f'{name}.py')
        return audit_labels(
            config, checkpoint or checkpoint_of(name), cfg_options={**demo_options, **dict(options)}, **given
        )

    return call
