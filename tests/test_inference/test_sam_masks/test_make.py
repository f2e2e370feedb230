import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from csrm_plugin.inference.refine_sam import refine_folder
from csrm_plugin.inference.sam_masks import SamSettings, make_masks, report_line
from csrm_plugin.refine import read_masks
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.pictures import picture_size, read_rgb
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

    def test_second_run_skips_what_is_there(self, tiny, pictures, tmp_path, console, capsys):
        out = tmp_path / 'masks'
        make_masks(tiny, pictures, out, settings=ALL, console=console)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        (out / 'b.json').unlink()
        (out / 'c.json').write_bytes(b'')
        summary = make_masks(tiny, pictures, out, settings=ALL, console=console)
        assert (summary['made'], summary['skipped']) == (2, 1)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        # What is there is taken for whole, unless it is read.
        (out / 'b.json').write_bytes(before['b.json'][:-20])
        (out / 'c.json').write_bytes(before['a.json'])  # of another size
        assert make_masks(tiny, pictures, out, settings=ALL, console=console)['skipped'] == 3
        summary = make_masks(tiny, pictures, out, settings=ALL, console=console, check=True)
        assert (summary['made'], summary['skipped']) == (2, 1)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        said = capsys.readouterr().out
        assert said.count('; it is made again') == 2 and str(out / 'b.json') in said
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

    def test_no_processes(self, tiny, pictures, tmp_path):
        with pytest.raises(UserError, match='--shard per GPU'):
            make_masks(tiny, pictures, tmp_path / 'masks', workers=2)


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
        assert np.abs(read_rgb(pictures / 'a.jpg').astype(int) - seen).max() <= 4
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
