import numpy as np
from mmseg.registry import TRANSFORMS
from PIL import Image

STEP = dict(type='LoadOptionalAnnotations')


def test_loads_the_mask(tmp_path):
    mask = np.array([[0, 1, 255], [2, 0, 0]], dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / 'a.png')
    results = dict(seg_map_path=str(tmp_path / 'a.png'), reduce_zero_label=False, label_map=None, seg_fields=[])
    assert TRANSFORMS.build(STEP)(results)['gt_seg_map'].tolist() == mask.tolist()


def test_passes_without_a_mask():
    results = dict(reduce_zero_label=False, label_map=None, seg_fields=[])
    assert 'gt_seg_map' not in TRANSFORMS.build(STEP)(dict(results))
