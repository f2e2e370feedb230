import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from csrm_plugin.inference.sam_masks import SamSettings, geometry, segment_anything
from csrm_plugin.inference.sam_masks.geometry import crop_boxes
from csrm_plugin.inference.sam_masks.segment_anything import SamProposer
from csrm_plugin.utils import UserError

pytest.importorskip('pycocotools')


ALL = SamSettings(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0)


def draw(size, seed=0):
    """A picture of two coloured blocks on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    image[10:40, 15:45] = (250, 60, 30)
    image[45:60, 5:50] = (30, 90, 240)
    return image


class TestProposer:
    def test_weights_are_part_of_the_settings(self, tiny, pictures, tmp_path, console):
        """Two checkpoints may have the same name."""
        proposer = SamProposer(tiny, ALL)
        first = proposer.describe()['settings']['weights']
        assert SamProposer(tiny, ALL).describe()['settings']['weights'] == first
        with torch.no_grad():
            next(proposer.model.parameters()).view(-1)[0] += 1
        assert proposer.describe()['settings']['weights'] != first

    @pytest.mark.parametrize(('layers', 'keep_cut'), [(0, False), (1, False), (1, True)])
    @pytest.mark.parametrize(('iou', 'stability'), [(0, 0), (0.5, 0), (0, 0.93), (0.45, 0.9)])
    def test_equals_the_filters_of_transformers(self, tiny, monkeypatch, layers, keep_cut, iou, stability):
        """All but the suppression of boxes, for which transformers needs torchvision."""
        image = draw((150, 200))
        if keep_cut:  # or no mask of the crops is left, for they all reach the border of theirs
            host = sys.modules[type(SamProposer(tiny, ALL).processor).__module__]
            monkeypatch.setattr(geometry, 'EDGE_DISTANCE', -1)
            monkeypatch.setattr(host, '_is_box_near_crop_edge', lambda boxes, *_: torch.zeros(len(boxes), dtype=bool))
        settings = SamSettings(4, iou, stability, layers)
        proposer = SamProposer(tiny, settings, points_per_batch=5)
        monkeypatch.setattr(segment_anything, 'suppress_records', lambda records, scores: range(len(records)))
        records = proposer(image)
        expected = host_masks(proposer, image, settings)
        found = [(r['segmentation']['counts'], round(r['predicted_iou'], 4)) for r in records]
        assert sorted(found) == sorted((counts, round(score, 4)) for counts, score in expected)
        assert len(found) > (48 if keep_cut and not iou and not stability else 0)

    def test_smaller_batches_change_nothing(self, tiny, monkeypatch):
        monkeypatch.setattr(segment_anything, 'suppress_records', lambda records, scores: range(len(records)))
        image = draw((75, 100))
        records = SamProposer(tiny, ALL, points_per_batch=64)(image)
        monkeypatch.setattr(segment_anything, '_UPSCALE_ELEMENTS', 1)
        small = SamProposer(tiny, ALL, points_per_batch=1)(image)
        assert [r['segmentation'] for r in small] == [r['segmentation'] for r in records] and len(records) == 27

    def test_of_overlapping_crops_the_smaller_wins(self, tiny, monkeypatch):
        proposer = SamProposer(tiny, SamSettings(crop_layers=1))

        def propose(image, box):
            number = crop_boxes(75, 100, 1).index(box)
            same = [dict(bbox=[30, 30, 20, 20], predicted_iou=0.9 - number / 10, crop=number)]
            own = [dict(bbox=[0, 0, 100, 75], predicted_iou=0.1, crop=number)] if number == 0 else []
            return own + same

        monkeypatch.setattr(proposer, '_propose_in_crop', propose)
        kept = proposer(draw((75, 100)))
        assert [(record['bbox'][2], record['crop']) for record in kept] == [
            (20, 3),
            (100, 0),
        ]  # 62 x 50 pixels, others 63

    def test_small_masks_are_dropped(self, tiny, monkeypatch):
        monkeypatch.setattr(segment_anything, 'suppress_records', lambda records, scores: range(len(records)))
        image = draw((75, 100))
        areas = sorted(record['area'] for record in SamProposer(tiny, ALL)(image))
        middle = areas[len(areas) // 2]
        kept = sorted(record['area'] for record in SamProposer(tiny, ALL, min_mask_area=middle)(image))
        assert kept == [area for area in areas if area >= middle] and len(kept) < len(areas)

    def test_the_best_rated_of_equal_boxes_stays(self, tiny, monkeypatch):
        image = draw((75, 100))
        kept = SamProposer(tiny, ALL)(image)
        monkeypatch.setattr(segment_anything, 'suppress_records', lambda records, scores: range(len(records)))
        assert max(record['predicted_iou'] for record in SamProposer(tiny, ALL)(image)) == kept[0]['predicted_iou']

    @pytest.mark.parametrize(
        'error',
        [torch.OutOfMemoryError('CUDA out of memory. Tried'), MemoryError(), RuntimeError("can't allocate memory: 9")],
    )
    def test_full_memory_halves_the_points(self, tiny, monkeypatch, console, error):
        image = draw((75, 100))
        expected = SamProposer(tiny, ALL)(image)
        proposer = SamProposer(tiny, ALL, points_per_batch=9, console=console)
        sizes, forward = [], proposer.model.forward

        def limited(*args, **kwargs):
            sizes.append(kwargs['input_points'].shape[1])
            if sizes[-1] > 2:
                raise error
            return forward(*args, **kwargs)

        monkeypatch.setattr(proposer.model, 'forward', limited)
        assert proposer(image) == expected
        assert sizes == [9, 4, 2, 2, 2, 2, 1] and proposer.points_per_batch == 2
        assert 'out of memory: going on with --points-per-batch 2 (the masks stay' in console.file.getvalue()

    def test_full_memory_with_one_point(self, tiny, monkeypatch, console):
        proposer = SamProposer(tiny, ALL, points_per_batch=2, console=console)

        def fail(*args, **kwargs):
            raise torch.OutOfMemoryError('CUDA out of memory.')

        monkeypatch.setattr(proposer.model, 'get_image_embeddings', fail)
        with pytest.raises(UserError, match=r'cpu is full with one point at a time \(x\.jpg, 100 x 75 pixels\)'):
            proposer(draw((75, 100)), 'x.jpg')

    def test_other_errors_stay_what_they_are(self, tiny, monkeypatch):
        proposer = SamProposer(tiny, ALL)

        def fail(*args, **kwargs):
            raise RuntimeError('a bug')

        monkeypatch.setattr(proposer.model, 'get_image_embeddings', fail)
        with pytest.raises(RuntimeError, match='a bug'):
            proposer(draw((75, 100)))

    def test_high_quality_model(self, tiny_hq):
        proposer = SamProposer(tiny_hq, ALL)
        records = proposer(draw((75, 100)))
        assert records and proposer.describe()['generator'] == 'sam-hq hq'


def host_masks(proposer, image, settings):
    """(run lengths, rating) of the masks that the steps of transformers' pipeline give before it suppresses boxes."""
    from pycocotools import mask as coder

    processor, model = proposer.processor, proposer.model
    boxes, points, crops, labels = processor.generate_crop_boxes(
        Image.fromarray(image), 64, settings.crop_layers, points_per_crop=settings.points_per_side
    )
    found = []
    for index, crop in enumerate(crops):
        inputs = processor(images=[crop], return_tensors='pt')
        with torch.no_grad():
            output = model(
                pixel_values=inputs['pixel_values'],
                input_points=points[:, :, index : index + 1].float(),
                input_labels=labels[:, :, index : index + 1].long(),
            )
        logits = processor.post_process_masks(
            [output.pred_masks[0]], inputs['original_sizes'], inputs['reshaped_input_sizes'], binarize=False
        )
        runs, scores, _ = processor.filter_masks(
            logits[0],
            output.iou_scores[0],
            image.shape[:2],
            boxes[index].numpy(),
            pred_iou_thresh=settings.pred_iou_thresh,
            stability_score_thresh=settings.stability_score_thresh,
        )
        for run, score in zip(runs, scores.tolist()):
            mask = coder.decode(coder.frPyObjects(run, *run['size']))
            if mask.any():
                found.append((coder.encode(np.asfortranarray(mask))['counts'].decode(), score))
    return found


def test_full_memory_empties_the_cache_of_cuda(monkeypatch):
    emptied = []
    proposer = types.SimpleNamespace(device=torch.device('cuda'))
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append(True))
    SamProposer._free_memory(proposer)
    assert emptied
