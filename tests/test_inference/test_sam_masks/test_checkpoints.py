import sys
from pathlib import Path

import pytest

from csrm_plugin.inference.sam_masks import checkpoints
from csrm_plugin.utils import MissingFileError, UserError

pytest.importorskip('pycocotools')


class TestLoading:
    def load(self, checkpoint):
        return checkpoints.load_sam(str(checkpoint))

    def test_folders_stay_off_the_network(self, tiny):
        assert checkpoints._locate(tiny) == (tiny, True)

    @pytest.mark.parametrize(
        'name', ['no/such/folder', './nothing', '/no/where', 'sam', '~/sam', 'a/', '../a', 'a b/c']
    )
    def test_missing_path(self, name):
        pytest.importorskip('transformers')
        with pytest.raises(MissingFileError, match=r'does not exist; give a folder, a hub name .* `superpixels`'):
            self.load(name)

    def test_missing_folder_in_a_folder_that_exists(self, tmp_path, monkeypatch):
        pytest.importorskip('transformers')
        monkeypatch.chdir(tmp_path)
        (tmp_path / 'weights').mkdir()
        with pytest.raises(MissingFileError, match='`weights/sam` does not exist'):
            self.load('weights/sam')

    def test_empty_folder(self, tmp_path):
        pytest.importorskip('transformers')
        with pytest.raises(MissingFileError, match=r'has no config\.json'):
            self.load(tmp_path)

    def test_file(self, tmp_path):
        pytest.importorskip('transformers')
        (tmp_path / 'sam.pth').write_bytes(b'')
        with pytest.raises(UserError, match='is a file; give the folder'):
            self.load(tmp_path / 'sam.pth')

    def test_other_model(self, tmp_path):
        transformers = pytest.importorskip('transformers')
        transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path)
        with pytest.raises(UserError, match='is a model of type bert, but must be Segment Anything: sam or sam_hq'):
            self.load(tmp_path)

    @pytest.mark.parametrize(
        ('name', 'damage'),
        [
            ('config.json', lambda data: data[:40]),
            ('config.json', lambda data: b'{"model_type": "nothing known"}'),
            ('model.safetensors', lambda data: data[:2000]),
            ('model.safetensors', lambda data: None),
            ('preprocessor_config.json', lambda data: None),
        ],
    )
    def test_damaged(self, tiny, tmp_path, name, damage):
        for path in Path(tiny).iterdir():
            data = path.read_bytes()
            if path.name == name:
                data = damage(data)
            if data is not None:
                (tmp_path / path.name).write_bytes(data)
        with pytest.raises(UserError, match=rf'^checkpoint `{tmp_path}` cannot be loaded: \S+') as info:
            self.load(tmp_path)
        assert '\n' not in str(info.value)

    def test_incomplete_weights(self, tiny, tmp_path):
        """transformers would fill them in at random."""
        from safetensors.torch import load_file, save_file

        for path in Path(tiny).iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        weights = load_file(tmp_path / 'model.safetensors')
        del weights['vision_encoder.pos_embed']
        save_file(weights, tmp_path / 'model.safetensors', {'format': 'pt'})
        with pytest.raises(UserError, match=r'lack 1 tensors .*vision_encoder\.pos_embed'):
            self.load(tmp_path)

    def test_hub_that_cannot_be_reached(self, monkeypatch, tmp_path):
        pytest.importorskip('transformers')
        monkeypatch.setattr('huggingface_hub.try_to_load_from_cache', lambda *args: None)

        def fail(self, name, timeout):
            assert timeout <= 10
            raise ConnectionError('no route\nto host')

        monkeypatch.setattr('huggingface_hub.HfApi.model_info', fail)
        with pytest.raises(UserError, match=r'owner/sam` is no folder, not in the local cache.*\(no route\): download'):
            self.load('owner/sam')

    def test_without_transformers(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, 'transformers', None)
        with pytest.raises(UserError, match=r'pip install transformers`.*`superpixels`'):
            self.load(tmp_path)
