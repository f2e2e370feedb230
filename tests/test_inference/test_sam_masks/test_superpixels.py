import json
import sys

import numpy as np
import pytest

from csrm_plugin.inference.refine_sam import masks_origin
from csrm_plugin.inference.sam_masks import SamSettings, make_masks, report_line, superpixels
from csrm_plugin.refine import read_masks
from csrm_plugin.utils import UserError

pytest.importorskip('pycocotools')


SIZES = {'a': (75, 100), 'b': (100, 60), 'c': (64, 64)}


ALL = SamSettings(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0)


class TestSuperpixels:
    @pytest.fixture(autouse=True)
    def _present(self):
        pytest.importorskip('skimage')

    @pytest.mark.parametrize('workers', [0, 2])
    def test_masks_of_a_folder(self, pictures, tmp_path, console, workers):
        out = tmp_path / 'masks'
        summary = make_masks('superpixels', pictures, out, workers=workers, console=console)
        assert summary['made'] == 3 and 'mechanism only' in report_line(summary)
        assert masks_origin(out) == 'superpixels (felzenszwalb), mechanism only'
        for name, size in SIZES.items():
            masks = read_masks(out, name, size)
            assert len({mask.tobytes() for mask in masks}) == len(masks) > 2
            block = np.zeros(size, dtype=bool)
            block[10:40, 15:45] = True
            ious = [(mask & block).sum() / (mask | block).sum() for mask in masks]
            assert max(ious) > 0.6  # JPEG and the smoothing blur its edges
            entries = json.loads((out / f'{name}.json').read_text())
            assert {entry['scale'] for entry in entries} <= {50, 150, 400}
            assert masks.any(axis=0).all()  # every pixel lies in a segment
        assert make_masks('superpixels', pictures, out, workers=workers, console=console)['skipped'] == 3

    def test_segments_of_all_scales(self, monkeypatch):
        calls = []

        def segment(image, scale, sigma, min_size):
            calls.append((scale, sigma, min_size))
            return np.arange(64).reshape(8, 8) >= (32 if scale < 400 else 60)

        monkeypatch.setattr(superpixels, 'import_felzenszwalb', lambda: segment)
        records = superpixels.SuperpixelProposer()(np.zeros((8, 8, 3), np.uint8))
        assert calls == [(50, 0.8, 1), (150, 0.8, 1), (400, 0.8, 1)]
        assert [(r['area'], r['scale']) for r in records] == [(32, 50), (32, 50), (60, 400), (4, 400)]
        records = superpixels.SuperpixelProposer(min_mask_area=5)(np.zeros((8, 8, 3), np.uint8))
        assert [r['area'] for r in records] == [32, 32, 60]

    def test_settings_of_sam_are_refused(self, pictures, tmp_path):
        with pytest.raises(UserError, match='--points-per-side is for Segment Anything'):
            make_masks('superpixels', pictures, tmp_path / 'out', settings=ALL)
        assert not (tmp_path / 'out').exists()

    def test_not_side_by_side_with_sam(self, tiny, pictures, tmp_path, console):
        make_masks('superpixels', pictures, tmp_path / 'out', console=console)
        with pytest.raises(UserError, match=r'\(generator: .superpixels. there, .sam. now\)'):
            make_masks(tiny, pictures, tmp_path / 'out', settings=ALL, console=console)

    def test_shards(self, pictures, tmp_path, console):
        made = [make_masks('superpixels', pictures, tmp_path / 'out', shard=(i, 2), console=console) for i in (0, 1)]
        assert [summary['made'] for summary in made] == [2, 1]

    def test_without_scikit_image(self, pictures, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, 'skimage.segmentation', None)
        with pytest.raises(UserError, match=r'pip install scikit-image` \(the extra `superpixels`\)'):
            make_masks('superpixels', pictures, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()
