import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from csrm_plugin.inference import sam_masks
from csrm_plugin.inference.refine_sam import masks_origin, refine_folder
from csrm_plugin.inference.sam_masks import (
    SamProposer,
    SamSettings,
    crop_boxes,
    is_cut,
    make_masks,
    picture_size,
    point_grid,
    read_picture,
    report_line,
    stability_scores,
    suppress_boxes,
)
from csrm_plugin.refine import read_masks
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.visualization import save_label_png

pytest.importorskip('pycocotools')

SIZES = {'a': (75, 100), 'b': (100, 60), 'c': (64, 64)}
ALL = SamSettings(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0)


def draw(size, seed=0):
    """A picture of two coloured blocks on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    image[10:40, 15:45] = (250, 60, 30)
    image[45:60, 5:50] = (30, 90, 240)
    return image


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / 'pictures').mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(draw(size, seed)).save(tmp_path / 'pictures' / f'{name}.jpg', quality=95)
    return tmp_path / 'pictures'


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=300)


def save_tiny(folder, hq=False):
    """A model with random weights that gives differing masks, ratings and stabilities, and its processor."""
    transformers = pytest.importorskip('transformers')
    host = pytest.importorskip('transformers.models.sam.image_processing_pil_sam')
    kind = 'SamHQ' if hq else 'Sam'
    vision = dict(
        hidden_size=16,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        window_size=2,
        global_attn_indexes=[0],
        num_pos_feats=16,
        mlp_dim=16,
    )
    decoder = dict(hidden_size=32, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8)
    if hq:
        decoder['vit_dim'] = 16
    config = getattr(transformers, f'{kind}Config')(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=32, image_size=64, mask_input_channels=4),
        mask_decoder_config=decoder,
    )
    model = getattr(transformers, f'{kind}Model')(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 2 / parameter[0].numel() ** 0.5, generator=generator)
        model.vision_encoder.pos_embed.normal_(0, 3, generator=generator)
        for layers in model.mask_decoder.output_hypernetworks_mlps:
            layers.proj_out.weight *= 30
        model.mask_decoder.iou_prediction_head.proj_out.weight *= 0.1
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.5)
    model.save_pretrained(folder)
    side, small = dict(height=64, width=64), dict(height=16, width=16)
    host.SamImageProcessorPil(
        size={'longest_edge': 64}, pad_size=side, mask_size={'longest_edge': 16}, mask_pad_size=small
    ).save_pretrained(folder)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models') / 'tiny-sam'
    save_tiny(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No test may look for a network."""

    def refuse(*args, **kwargs):
        raise AssertionError('looked for a network')

    monkeypatch.setattr('socket.getaddrinfo', refuse)


class TestSam:
    def test_masks_of_a_folder_and_refinement_by_them(self, tiny, pictures, tmp_path, console):
        out = tmp_path / 'masks'
        summary = make_masks(tiny, pictures, out, settings=ALL, console=console)
        assert (summary['pictures'], summary['made'], summary['skipped'], summary['without_masks']) == (3, 3, 0, 0)
        assert summary['masks_per_picture'] >= 1 and summary['origin'] == 'sam tiny-sam'
        assert {path.name for path in out.iterdir()} == {'a.json', 'b.json', 'c.json', 'masks.json'}
        for name, size in SIZES.items():
            masks = read_masks(out, name, size)
            entries = json.loads((out / f'{name}.json').read_text())
            assert len(masks) == len(entries) > 0 and masks.any(axis=(1, 2)).all()
            for mask, entry in zip(masks, entries):
                assert set(entry) == {'segmentation', 'area', 'bbox', 'predicted_iou', 'stability_score'}
                assert entry['area'] == mask.sum() and 0 <= entry['stability_score'] <= 1
            labels = np.zeros(size, dtype=np.uint8)
            labels[10:40, 15:45] = 1
            save_label_png(tmp_path / 'labels' / f'{name}.png', labels, [[0, 0, 0], [9, 9, 9]])
        (tmp_path / 'list.txt').write_text('a\nb\nc')
        refined = refine_folder(
            tmp_path / 'labels', out, tmp_path / 'refined', tmp_path / 'list.txt', 0, 0, console=console
        )
        assert refined['masks_per_picture'] == pytest.approx(summary['masks_per_picture'])
        assert refined['changed_share'] > 0
        settings = json.loads((tmp_path / 'refined' / 'labels.json').read_text())['settings']
        assert settings['sepl']['masks'] == 'sam tiny-sam'

    def test_second_run_skips_whole_files(self, tiny, pictures, tmp_path, console):
        out = tmp_path / 'masks'
        make_masks(tiny, pictures, out, settings=ALL, console=console)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        (out / 'b.json').write_bytes(before['b.json'][:-20])
        (out / 'c.json').write_bytes(before['a.json'])  # of another size
        summary = make_masks(tiny, pictures, out, settings=ALL, console=console)
        assert (summary['made'], summary['skipped']) == (2, 1)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        summary = make_masks(tiny, pictures, out, settings=ALL, console=console, points_per_batch=2)
        assert summary['skipped'] == 3 and summary['masks_per_picture'] is None
        assert report_line(summary) == '3 pictures (0 made now, 3 were there already); by sam tiny-sam'

    def test_other_settings_need_another_folder(self, tiny, pictures, tmp_path, console):
        out = tmp_path / 'masks'
        make_masks(tiny, pictures, out, settings=ALL, console=console)
        other = SamSettings(points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0)
        with pytest.raises(UserError, match=r'--out: .* \(points_per_side: 3 there, 4 now\)'):
            make_masks(tiny, pictures, out, settings=other, console=console)
        with pytest.raises(UserError, match=r'\(min_mask_area: 0 there, 5 now\)'):
            make_masks(tiny, pictures, out, settings=ALL, min_mask_area=5, console=console)

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
            monkeypatch.setattr(sam_masks, 'EDGE_DISTANCE', -1)
            monkeypatch.setattr(host, '_is_box_near_crop_edge', lambda boxes, *_: torch.zeros(len(boxes), dtype=bool))
        settings = SamSettings(4, iou, stability, layers)
        proposer = SamProposer(tiny, settings, points_per_batch=5)
        monkeypatch.setattr(sam_masks, '_suppress', lambda records, scores: range(len(records)))
        records = proposer(image)
        expected = host_masks(proposer, image, settings)
        found = [(r['segmentation']['counts'], round(r['predicted_iou'], 4)) for r in records]
        assert sorted(found) == sorted((counts, round(score, 4)) for counts, score in expected)
        assert len(found) > (48 if keep_cut and not iou and not stability else 0)

    def test_smaller_batches_change_nothing(self, tiny, monkeypatch):
        monkeypatch.setattr(sam_masks, '_suppress', lambda records, scores: range(len(records)))
        image = draw((75, 100))
        records = SamProposer(tiny, ALL, points_per_batch=64)(image)
        monkeypatch.setattr(sam_masks, '_UPSCALE_ELEMENTS', 1)
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
        monkeypatch.setattr(sam_masks, '_suppress', lambda records, scores: range(len(records)))
        image = draw((75, 100))
        areas = sorted(record['area'] for record in SamProposer(tiny, ALL)(image))
        middle = areas[len(areas) // 2]
        kept = sorted(record['area'] for record in SamProposer(tiny, ALL, min_mask_area=middle)(image))
        assert kept == [area for area in areas if area >= middle] and len(kept) < len(areas)

    def test_the_best_rated_of_equal_boxes_stays(self, tiny, monkeypatch):
        image = draw((75, 100))
        kept = SamProposer(tiny, ALL)(image)
        monkeypatch.setattr(sam_masks, '_suppress', lambda records, scores: range(len(records)))
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

    def test_high_quality_model(self, tmp_path):
        save_tiny(tmp_path / 'hq', hq=True)
        proposer = SamProposer(str(tmp_path / 'hq'), ALL)
        records = proposer(draw((75, 100)))
        assert records and proposer.describe()['generator'] == 'sam-hq hq'

    def test_no_processes(self, tiny, pictures, tmp_path):
        with pytest.raises(UserError, match='--shard per GPU'):
            make_masks(tiny, pictures, tmp_path / 'masks', workers=2)


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


class TestLoading:
    def load(self, checkpoint):
        return sam_masks.load_sam(str(checkpoint))

    def test_folders_stay_off_the_network(self, tiny):
        assert sam_masks._locate(tiny) == (tiny, True)

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

        monkeypatch.setattr(sam_masks, 'import_felzenszwalb', lambda: segment)
        records = sam_masks.SuperpixelProposer()(np.zeros((8, 8, 3), np.uint8))
        assert calls == [(50, 0.8, 1), (150, 0.8, 1), (400, 0.8, 1)]
        assert [(r['area'], r['scale']) for r in records] == [(32, 50), (32, 50), (60, 400), (4, 400)]
        records = sam_masks.SuperpixelProposer(min_mask_area=5)(np.zeros((8, 8, 3), np.uint8))
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


class TestPictures:
    """Any proposer: errors of pictures, lists and folders."""

    @pytest.fixture(autouse=True)
    def _present(self):
        pytest.importorskip('skimage')

    def make(self, pictures, tmp_path, **options):
        console = Console(file=io.StringIO())
        return make_masks('superpixels', pictures, tmp_path / 'out', console=console, **options)

    def test_split_and_sub_folders(self, pictures, tmp_path):
        (pictures / 'sub').mkdir()
        Image.fromarray(draw((64, 64))).save(pictures / 'sub' / 'd.png')
        (tmp_path / 'list.txt').write_text('sub/d\n')
        assert self.make(pictures, tmp_path, split_file=tmp_path / 'list.txt', suffix='.png')['pictures'] == 1
        assert read_masks(tmp_path / 'out', 'sub/d', (64, 64)).any()

    def test_missing_picture(self, pictures, tmp_path):
        (tmp_path / 'list.txt').write_text('a\nz\n')
        with pytest.raises(MissingFileError, match=r'1 of 2 pictures are not in .*z\.jpg'):
            self.make(pictures, tmp_path, split_file=tmp_path / 'list.txt')
        assert not (tmp_path / 'out').exists()

    def test_missing_and_empty_folder(self, tmp_path):
        with pytest.raises(MissingFileError, match=r'`.*nothing` does not exist'):
            self.make(tmp_path / 'nothing', tmp_path)
        (tmp_path / 'empty').mkdir()
        with pytest.raises(UserError, match=r'empty` holds no pictures that end in \.jpg'):
            self.make(tmp_path / 'empty', tmp_path)
        assert not (tmp_path / 'out').exists()

    @pytest.mark.parametrize('keep', [0, 10, 700])
    def test_truncated_picture(self, pictures, tmp_path, keep):
        (pictures / 'b.jpg').write_bytes((pictures / 'b.jpg').read_bytes()[:keep])
        with pytest.raises(UserError, match=r'picture `.*b\.jpg` cannot be read'):
            self.make(pictures, tmp_path)
        assert not (tmp_path / 'out' / 'b.json').exists()

    def test_turned_pictures(self, pictures, tmp_path):
        """As OpenCV, which the data sets read with, turns them."""
        cv2 = pytest.importorskip('cv2')
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(draw((75, 100))).save(pictures / 'a.jpg', exif=exif, quality=95)
        assert picture_size(pictures / 'a.jpg') == (100, 75)
        seen = cv2.cvtColor(cv2.imread(str(pictures / 'a.jpg')), cv2.COLOR_BGR2RGB)
        assert np.abs(read_picture(pictures / 'a.jpg').astype(int) - seen).max() <= 4
        self.make(pictures, tmp_path)
        assert read_masks(tmp_path / 'out', 'a', (100, 75)).any()
        assert self.make(pictures, tmp_path)['skipped'] == 3

    def test_name_of_the_manifest(self, pictures, tmp_path):
        (pictures / 'a.jpg').rename(pictures / 'masks.jpg')
        with pytest.raises(UserError, match='a picture may not be called `masks`'):
            self.make(pictures, tmp_path)

    def test_masks_of_unknown_origin(self, pictures, tmp_path):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / 'a.json').write_text('[]')
        with pytest.raises(UserError, match=r'holds masks of 1 of the pictures but no masks\.json'):
            self.make(pictures, tmp_path)
        (tmp_path / 'out' / 'masks.json').write_text('{"settings"')
        with pytest.raises(UserError, match=r'masks\.json` is damaged'):
            self.make(pictures, tmp_path)

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(min_mask_area=-1), '--min-mask-area must be at least 0'),
            (dict(points_per_batch=0), '--points-per-batch must be at least 1'),
            (dict(workers=-1), '--workers must be at least 0'),
        ],
    )
    def test_numbers(self, pictures, tmp_path, options, message):
        with pytest.raises(UserError, match=message):
            self.make(pictures, tmp_path, **options)
        assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(points_per_side=0), '--points-per-side must be at least 1'),
        (dict(crop_layers=-1), '--crop-layers must be at least 0'),
        (dict(pred_iou_thresh=1.1), '--pred-iou-thresh must be from 0 to 1, but is 1.1'),
        (dict(stability_score_thresh=-0.1), '--stability-score-thresh must be from 0 to 1'),
    ],
)
def test_settings(settings, message):
    with pytest.raises(UserError, match=message):
        SamSettings(**settings)


@pytest.mark.parametrize('device', ['nonsense', 'cuda:99', ''])
def test_unknown_device(device):
    with pytest.raises(UserError, match=f'--device {device}: there is no such device'):
        sam_masks.choose_device(device)


def test_automatic_device(monkeypatch):
    assert sam_masks.choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_point_grid():
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_crop_boxes():
    assert crop_boxes(30, 40, 0) == [(0, 0, 40, 30)]
    # overlap 10: crops of 25 x 20
    assert crop_boxes(30, 40, 1) == [(0, 0, 40, 30), (0, 0, 25, 20), (0, 10, 25, 30), (15, 0, 40, 20), (15, 10, 40, 30)]
    boxes = crop_boxes(333, 500, 2)
    assert len(boxes) == 1 + 4 + 16
    for first, last in ((1, 5), (5, 21)):
        seen = np.zeros((333, 500), dtype=int)
        for left, top, right, bottom in boxes[first:last]:
            assert 0 <= left < right <= 500 and 0 <= top < bottom <= 333
            seen[top:bottom, left:right] += 1
        assert seen.min() >= 1 and seen.max() == 4


def test_cut_masks():
    whole, crop = (0, 0, 400, 300), (0, 0, 250, 200)
    assert not is_cut((0, 0, 400, 300), whole, (300, 400))
    assert not is_cut((0, 0, 200, 150), crop, (300, 400))  # at the border of the picture only
    assert is_cut((100, 50, 131, 20), crop, (300, 400))  # ends at 230, 20 pixels from 250
    assert not is_cut((100, 50, 130, 20), crop, (300, 400))
    assert is_cut((10, 100, 20, 95), crop, (300, 400))
    assert is_cut((100, 50, 131, 20), (0, 0, 245, 200), (300, 400))
    assert not is_cut((100, 50, 131, 20), (0, 0, 245, 200), (300, 250))  # ends near the border of the picture, too


def slow_suppression(boxes, scores, max_iou):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        x0, y0, x1, y1 = boxes[index]
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            shared = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
            if shared > max_iou * ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared):
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize('max_iou', [0, 0.3, 0.7, 1])
def test_suppression_equals_a_slow_loop(max_iou):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 12, (80, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 9, (80, 2))], axis=1)
    scores = rng.integers(0, 20, 80) / 20
    kept = suppress_boxes(boxes, scores, max_iou)
    assert kept == slow_suppression(boxes.tolist(), scores.tolist(), max_iou)
    assert max_iou == 1 or len(kept) < 80
    assert suppress_boxes([], []) == []


def test_stability_scores():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-3.0, -3.0, -3.0, -3.0]], [[2.0, 3.0, -9.0, -9.0]]])
    assert stability_scores(logits).tolist() == pytest.approx([1 / 3, 0, 1])


def test_full_memory_empties_the_cache_of_cuda(monkeypatch):
    emptied = []
    proposer = types.SimpleNamespace(device=torch.device('cuda'))
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append(True))
    SamProposer._free_memory(proposer)
    assert emptied
