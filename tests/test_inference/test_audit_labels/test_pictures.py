import pytest

from csrm_plugin.config.load import load_config
from csrm_plugin.inference.audit_labels.pictures import find_pictures, picture_loader
from csrm_plugin.utils import UserError


@pytest.fixture
def cfg(root, demo_options):
    return load_config(str(root / 'mmcfg' / 'cam_demo.py'), demo_options)


def test_a_handful_of_masks_will_do(cfg, demo_root):
    """Pictures without a mask are left out; without any there is one line that says what to do."""
    folder = demo_root / 'SegmentationClass'
    hidden = {path: path.read_bytes() for path in sorted(folder.glob('train_*.png'))}
    try:
        for path in list(hidden)[1:]:
            path.unlink()
        dataset, infos, of_split = find_pictures(cfg, 'train', None)
        assert (len(dataset), len(infos), of_split) == (4, 1, 4)
        assert infos[0]['seg_map_path'] == str(folder / 'train_0000.png') and infos[0]['image_labels'].sum() > 0
        next(iter(hidden)).unlink()
        with pytest.raises(UserError, match=r'none of the 4 pictures of the split `train` has a mask in .*--split'):
            find_pictures(cfg, 'train', None)
    finally:
        for path, content in hidden.items():
            path.write_bytes(content)


def test_the_limit_is_spread_over_the_list(cfg):
    names = [info['img_id'] for info in find_pictures(cfg, 'train', 2)[1]]
    assert names == ['train_0000', 'train_0003']
    assert len(find_pictures(cfg, 'train', 9)[1]) == 4


def test_the_loader_gives_picture_labels_and_mask(cfg):
    _, infos, _ = find_pictures(cfg, None, 1)
    (batch,) = picture_loader(cfg, infos)
    assert batch['inputs'][0].shape == (3, 40, 48)
    assert batch['data_samples'][0].gt_sem_seg.data.shape == (1, 40, 48)
    assert batch['data_samples'][0].gt_image_labels.multi_hot.shape == (6,)


def test_a_config_without_a_test_has_no_pictures(cfg):
    cfg.test_dataloader = None
    with pytest.raises(UserError, match='has no test_dataloader'):
        find_pictures(cfg, None, None)
