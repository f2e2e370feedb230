import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from csrm_plugin.datasets.label_folder import read_label_png
from csrm_plugin.datasets.voc_layout import voc_palette
from csrm_plugin.inference.refine_sam import refine_folder, report_line
from csrm_plugin.refine import enhance_labels, write_masks
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.visualization import save_label_png

pytest.importorskip('pycocotools')

IDS = ['a', 'sub/b', 'c', 'd', 'e']
PALETTE = [[0, 0, 0], [250, 0, 0], [0, 240, 0]]
SETTINGS = {'source': 'cam', 'threshold': 0.3}


@pytest.fixture
def data(tmp_path):
    """Labels with a manifest, masks (one picture has none) and a list."""
    rng = np.random.default_rng(0)
    made = {}
    for index, name in enumerate(IDS):
        size = (8 + index, 10)
        labels = rng.choice([0, 255], size).astype(np.uint8)
        labels[2:5, 3:8] = 1 + index % 2
        masks = np.zeros((0 if name == 'c' else 2, *size), dtype=bool)
        masks[:1, 1:6, 3:8] = True
        save_label_png(tmp_path / 'labels' / f'{name}.png', labels, PALETTE)
        write_masks(tmp_path / 'masks' / f'{name}.json', masks)
        made[name] = labels, masks
    content = dict(classes=['background', 'x', 'y'], palette=PALETTE, settings=SETTINGS, note='kept')
    (tmp_path / 'labels' / 'labels.json').write_text(json.dumps(content))
    (tmp_path / 'list.txt').write_text('\n'.join(IDS))
    return made


@pytest.fixture
def refine(tmp_path):
    def call(out='out', **options):
        console = Console(file=io.StringIO())
        return refine_folder(
            tmp_path / 'labels', tmp_path / 'masks', tmp_path / out, tmp_path / 'list.txt', console=console, **options
        )

    return call


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('workers', [0, 2])
def test_writes_what_the_function_gives(data, refine, tmp_path, workers):
    summary = refine(workers=workers)
    changed = pixels = 0
    for name, (labels, masks) in data.items():
        path = tmp_path / 'out' / f'{name}.png'
        expected = enhance_labels(labels, masks)
        np.testing.assert_array_equal(read_label_png(path), expected)
        changed, pixels = changed + (expected != labels).sum(), pixels + labels.size
        with Image.open(path) as picture:
            assert picture.mode == 'P' and picture.getpalette()[:9] == [0, 0, 0, 250, 0, 0, 0, 240, 0]
    assert changed
    assert summary == dict(
        pictures=5, made=5, skipped=0, masks_per_picture=8 / 5, changed_share=changed / pixels, without_masks=1
    )
    assert '5 pictures (5 made now, 0 were there already): 1.6 masks per picture' in report_line(summary)
    assert '1 pictures without masks (their labels are unchanged)' in report_line(summary)
    assert files(tmp_path / 'out') == {'labels.json', *(f'{name}.png' for name in IDS)}


@pytest.mark.parametrize('thresholds', [(0.99, 0.7), (0.65, 0.99)])
def test_thresholds_reach_the_function(data, refine, tmp_path, thresholds):
    """A mask of which the class fills a part, and which covers a part of the class."""
    labels, masks = data['a'][0] * 0, data['a'][1][:1]
    labels[3:7, 3:8] = 2
    save_label_png(tmp_path / 'labels' / 'a.png', labels, PALETTE)
    assert (enhance_labels(labels, masks, 0.99, 0.5) != enhance_labels(labels, masks, 0.99, 0.99)).any()
    refine(min_mask_overlap=thresholds[0], min_label_coverage=thresholds[1])
    np.testing.assert_array_equal(
        read_label_png(tmp_path / 'out' / 'a.png'), enhance_labels(labels, masks, *thresholds)
    )


def test_manifest_says_what_was_done(data, refine, tmp_path):
    refine()
    manifest = json.loads((tmp_path / 'out' / 'labels.json').read_text())
    assert manifest.pop('settings') == {
        **SETTINGS,
        'sepl': dict(min_mask_overlap=0.5, min_label_coverage=0.85, masks='unknown'),
    }
    assert manifest == dict(classes=['background', 'x', 'y'], palette=PALETTE, note='kept')
    (tmp_path / 'masks' / 'masks.json').write_text(json.dumps({'generator': 'sam owner/name', 'settings': {}}))
    refine('second')
    settings = json.loads((tmp_path / 'second' / 'labels.json').read_text())['settings']
    assert settings['sepl']['masks'] == 'sam owner/name'
    with pytest.raises(UserError, match=r"made with other settings \(sepl: .*'unknown'.*'sam owner/name'"):
        refine()


@pytest.mark.parametrize('workers', [0, 2])
def test_second_run_skips_what_is_there_and_mends_what_it_reads(data, refine, tmp_path, capsys, workers):
    refine()
    whole, broken = tmp_path / 'out' / 'a.png', tmp_path / 'out' / 'd.png'
    before, content = whole.stat().st_mtime_ns, broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    assert refine()['skipped'] == 5
    summary = refine(check=True, workers=workers)
    assert (summary['made'], summary['skipped'], summary['masks_per_picture']) == (1, 4, 2)
    assert f'label map `{broken}` cannot be read' in capsys.readouterr().out
    assert whole.stat().st_mtime_ns == before and broken.read_bytes() == content
    summary = refine()
    assert summary['changed_share'] is summary['masks_per_picture'] is None
    assert report_line(summary) == '5 pictures (0 made now, 5 were there already)'
    broken.write_bytes(b'')
    (tmp_path / 'out' / 'sub' / 'b.png').unlink()
    assert refine()['made'] == 2 and broken.read_bytes() == content


def test_shards_share_the_work(data, refine, tmp_path):
    assert [refine(shard=(index, 2))['made'] for index in range(2)] == [3, 2]
    assert refine()['skipped'] == 5


def test_shard_needs_its_own_masks_only(data, refine, tmp_path):
    (tmp_path / 'masks' / 'd.json').unlink()
    assert refine(shard=(0, 2))['made'] == 3
    with pytest.raises(MissingFileError, match='1 of 2 pictures have no masks'):
        refine(shard=(1, 2))


def test_without_manifest_any_class_and_the_palette_of_voc(data, refine, tmp_path):
    (tmp_path / 'labels' / 'labels.json').unlink()
    labels = np.full((8, 10), 200, dtype=np.uint8)
    save_label_png(tmp_path / 'labels' / 'a.png', labels, voc_palette(256))
    refine()
    with Image.open(tmp_path / 'out' / 'a.png') as picture:
        assert picture.getpalette()[3 * 200 : 3 * 201] == voc_palette(256)[200]
    manifest = json.loads((tmp_path / 'out' / 'labels.json').read_text())
    assert set(manifest) == {'settings'} and set(manifest['settings']) == {'labels', 'sepl'}


def test_masks_of_all_forms(data, refine, tmp_path):
    (tmp_path / 'masks' / 'a.json').unlink()
    np.savez(tmp_path / 'masks' / 'a.npz', masks=data['a'][1])
    (tmp_path / 'masks' / 'sub' / 'b.json').unlink()
    (tmp_path / 'masks' / 'sub' / 'b').mkdir()
    Image.fromarray(data['sub/b'][1][0].astype(np.uint8) * 255).save(tmp_path / 'masks' / 'sub' / 'b' / '0.png')
    refine()
    for name, (labels, masks) in data.items():
        np.testing.assert_array_equal(read_label_png(tmp_path / 'out' / f'{name}.png'), enhance_labels(labels, masks))


class TestNothingIsWritten:
    """Errors that are seen before the first file."""

    @pytest.fixture(autouse=True)
    def _nothing(self, data, tmp_path):
        yield
        assert not (tmp_path / 'out').exists()

    def test_missing_labels(self, refine, tmp_path):
        (tmp_path / 'labels' / 'e.png').unlink()
        with pytest.raises(MissingFileError, match=r'1 of 5 label maps are not in .*e\.png.*pseudo_labels\.py'):
            refine()

    def test_missing_masks(self, refine, tmp_path):
        (tmp_path / 'masks' / 'e.json').unlink()
        (tmp_path / 'masks' / 'sub' / 'b.json').unlink()
        with pytest.raises(MissingFileError, match=r'2 of 5 pictures have no masks in .*: sub/b, e .*sam_masks\.py'):
            refine()

    def test_missing_folders(self, refine, tmp_path):
        (tmp_path / 'masks').rename(tmp_path / 'elsewhere')
        with pytest.raises(MissingFileError, match=r'masks` does not exist'):
            refine()
        (tmp_path / 'labels').rename(tmp_path / 'away')
        with pytest.raises(MissingFileError, match=r'labels` does not exist'):
            refine()

    def test_empty_list(self, refine, tmp_path):
        (tmp_path / 'list.txt').write_text('\n')
        with pytest.raises(UserError, match='is empty'):
            refine()

    @pytest.mark.parametrize('options', [dict(min_mask_overlap=1.2), dict(min_label_coverage=-1)])
    def test_thresholds(self, refine, options):
        with pytest.raises(UserError, match='must be a fraction'):
            refine(**options)

    def test_labels_enhanced_already(self, refine, tmp_path):
        content = json.loads((tmp_path / 'labels' / 'labels.json').read_text())
        content['settings']['sepl'] = {}
        (tmp_path / 'labels' / 'labels.json').write_text(json.dumps(content))
        with pytest.raises(UserError, match='enhanced already'):
            refine()

    @pytest.mark.parametrize('content', ['{', '[]', '{"settings": {}}'])
    def test_damaged_manifest_of_the_masks(self, refine, tmp_path, content):
        (tmp_path / 'masks' / 'masks.json').write_text(content)
        with pytest.raises(UserError, match=r'masks\.json` has no `generator`'):
            refine()

    def test_out_is_the_folder_of_the_labels(self, refine):
        with pytest.raises(UserError, match='is the folder of the labels'):
            refine('sub/../labels')


def test_labels_of_unknown_origin_are_not_taken_for_results(data, refine, tmp_path):
    """Above all the true masks of a data set."""
    save_label_png(tmp_path / 'out' / 'a.png', data['a'][0], PALETTE)
    with pytest.raises(UserError, match=r'holds 1 label maps of this split but no labels\.json'):
        refine()
    assert files(tmp_path / 'out') == {'a.png'}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda root: write_masks(root / 'masks' / 'd.json', np.zeros((1, 4, 4), bool)), r'd\.json`: mask 0 has 4 x 4'),
        (lambda root: (root / 'masks' / 'd.json').write_text('[{"segm'), r'd\.json` is no JSON'),
        (lambda root: (root / 'labels' / 'd.png').write_bytes(b'\x89PNG\r\n\x1a\n\0\0'), r'd\.png` cannot be read'),
        (lambda root: save_label_png(root / 'labels' / 'd.png', np.full((11, 10), 3), voc_palette(9)), 'holds class 3'),
    ],
)
def test_damaged_files_name_themselves_and_leave_nothing_half(data, refine, tmp_path, damage, message, workers):
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        refine(workers=workers)
    assert not (tmp_path / 'out' / 'd.png').exists()
    assert not [name for name in files(tmp_path / 'out') if name.startswith('.')]
