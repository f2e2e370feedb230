import importlib.util

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from csrm_plugin.config.load import load_config
from csrm_plugin.inference import browsing
from csrm_plugin.utils.cli import run_tool


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    """Small pictures, one batch of four."""
    root, size = str(tmp_path_factory.mktemp('data') / 'demo'), '(64,48)'
    settings = dict(data_root=root, image_size=size, num_train=8, num_val=1)
    settings = {f'train_dataloader.dataset.{key}': value for key, value in settings.items()}
    return {**settings, 'train_dataloader.batch_size': 4, 'train_dataloader.dataset.pipeline.1.scale': size}


@pytest.fixture
def tool(root, capsys, options, tmp_path):
    """Run the tool on a config of the demo; gives exit status, stdout and stderr."""
    spec = importlib.util.spec_from_file_location('browse_dataset', root / 'tools' / 'browse_dataset.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(name, *arguments, **more):
        settings = [f'{key}={value}' for key, value in {**options, **more}.items()]
        arguments = [root / 'mmcfg' / name, '--out', tmp_path, *arguments, '--cfg-options', *settings]
        with pytest.raises(SystemExit) as end:
            run_tool(module.main, module.build_parser(), [str(argument) for argument in arguments])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize('name', ['csrm_demo.py', 'cam_demo.py', 'puzzle_demo.py'])
def test_writes_pictures_and_a_sheet(tool, tmp_path, name):
    status, out, err = tool(name, '--count', 3)
    assert status == 0, err
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 4 and files[-1] == 'contact_sheet.png' and str(tmp_path / files[-1]) in out
    panels = 5 if name.startswith('csrm') else 1
    assert Image.open(tmp_path / files[0]).width > panels * browsing.PANEL_WIDTH


def test_classifier_with_checkpoint_shows_cams(tool, root, tmp_path, options):
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    checkpoint = tmp_path / 'weights.pth'
    torch.save(
        dict(state_dict=MODELS.build(load_config(str(root / 'mmcfg/cam_demo.py')).model).state_dict()), checkpoint
    )
    for name, panels in (('cam_demo.py', 2), ('csrm_demo.py', 5)):
        status, _, err = tool(name, '--count', 1, '--checkpoint', checkpoint)
        assert status == 0, err
        (picture,) = tmp_path.glob('000_*.png')
        assert Image.open(picture).width // browsing.PANEL_WIDTH == panels
        picture.unlink()


@pytest.mark.parametrize('capacity', [None, 3])
def test_what_a_checkpoint_holds_of_the_bank_does_not_matter(tool, checkpoint_of, tmp_path, capacity, logged):
    content = torch.load(checkpoint_of('csrm_demo'), weights_only=True)
    state = {name: value for name, value in content['state_dict'].items() if not name.startswith('bank.')}
    if capacity is not None:
        state |= {f'bank.{name}': torch.zeros(7, capacity, 2) for name in ('features', 'pushed_at')}
    torch.save(dict(state_dict=state), tmp_path / 'weights.pth')
    status, _, err = tool('csrm_demo.py', '--count', 1, '--checkpoint', tmp_path / 'weights.pth')
    assert status == 0, err
    assert not [line for line in logged if 'bank' in line]


def test_at_most_one_epoch_is_drawn(tool, tmp_path):
    status, out, _ = tool('cam_demo.py', '--count', 99)
    assert status == 0 and '8 pictures' in out and len(list(tmp_path.glob('0*.png'))) == 8


@pytest.mark.parametrize(
    'arguments, message', [(['--count', 0], '--count'), (['--checkpoint', 'none.pth'], 'none.pth')]
)
def test_errors_are_one_line(tool, arguments, message):
    status, _, err = tool('csrm_demo.py', *arguments)
    assert status == 1 and message in err.splitlines()[-1] and 'Traceback' not in err


@pytest.mark.parametrize('stride', [1, 2])
def test_panels_are_what_the_student_sees(root, options, stride):
    """Pixels change exactly where the caption says that something was pasted, and the labels follow."""
    settings = {'model.mix_prob': 0.5, 'model.pseudo_label.stride': stride, 'model.student_scales': None}
    cfg = load_config(str(root / 'mmcfg/csrm_demo.py'), {**options, **settings})
    cfg.train_dataloader.dataset.update(image_size=(64, 48))
    cfg.train_dataloader.dataset.pipeline[1].scale = (64, 48)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    loader, model = browsing._build(cfg)
    rows = [row for _, row in browsing._rows(loader, model, loader.dataset.metainfo, False)]
    changed = [bool((row[0].picture != row[3].picture).any()) for row in rows]
    assert any(changed) and not all(changed)
    for row, differs in zip(rows, changed):
        assert all(panel.picture.shape == (48, 64, 3) and panel.picture.dtype == np.uint8 for panel in row)
        assert differs == ('nothing pasted' not in row[3].caption)
        assert differs or (row[2].picture == row[4].picture).all()
        assert 'RANDOM' in row[1].caption and 'fg > 0.1, bg < 0.05, dCRF' in row[2].caption
        own = row[0].caption.split('labels: ')[1].split(', ')
        assert all(name in row[4].caption for name in own)
