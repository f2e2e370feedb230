import os

from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run


def test_weights_are_looked_for_beside_the_data(root, tmp_path, monkeypatch):
    monkeypatch.delenv('MSRC_WEIGHTS', raising=False)
    monkeypatch.setenv('MSRC_ROOT', str(tmp_path / 'msrc'))
    monkeypatch.setattr(os, 'environ', dict(os.environ))  # `Run` sets the variable for what it starts
    recipe = load_recipe('msrc', str(root))
    assert Run(recipe, str(root), 'RUN').environment == {}
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'mobilenetv2_imagenet.pth').write_bytes(b'1')
    found = str(tmp_path / 'weights' / 'mobilenetv2_imagenet.pth')
    assert Run(recipe, str(root), 'RUN').environment == dict(MSRC_WEIGHTS=found)
