import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.report import write_report
from csrm_plugin.report.page.markup import Ids
from csrm_plugin.report.runs.sources import load_runs
from csrm_plugin.report.sections import pictures
from csrm_plugin.utils import UserError


def decode(uri):
    head, data = uri.split(',', 1)
    return head, Image.open(io.BytesIO(base64.b64decode(data)))


def test_photos_are_scaled_down_and_flat_pictures_stay_exact(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 640, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'photo.png')
    head, photo = decode(pictures.data_uri(tmp_path / 'photo.png', 320))
    assert head == 'data:image/jpeg;base64' and photo.size == (320, 30)
    flat = np.zeros((30, 40, 3), np.uint8)
    flat[10:, 5:] = (128, 0, 0)
    Image.fromarray(flat).save(tmp_path / 'flat.png')
    head, same = decode(pictures.data_uri(tmp_path / 'flat.png', 320))
    assert head == 'data:image/png;base64' and np.array_equal(np.asarray(same), flat)


def test_missing_and_broken_pictures_are_named(tmp_path):
    with pytest.raises(UserError, match=r'gone\.png` does not exist'):
        pictures.data_uri(tmp_path / 'gone.png', 10)
    (tmp_path / 'broken.png').write_text('no picture')
    with pytest.raises(UserError, match=r'broken\.png` cannot be read'):
        pictures.data_uri(tmp_path / 'broken.png', 10)


def test_a_cut_picture_is_no_traceback(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'whole.png')
    content = (tmp_path / 'whole.png').read_bytes()
    read = []
    for size in range(len(content)):
        (tmp_path / 'cut.png').write_bytes(content[:size])
        try:
            read.append(pictures.data_uri(tmp_path / 'cut.png', 12) and size)
        except UserError as error:
            assert 'cut.png` cannot be read' in str(error)
    assert all(size > len(content) - 40 for size in read), len(content)  # the end marks alone can be missing


def test_samples_are_spread_evenly_with_the_first_and_the_last():
    assert pictures._spread([1, 2, 3], 5) == [1, 2, 3]
    assert pictures._spread(list(range(101)), 5) == [0, 25, 50, 75, 100]


def test_a_long_run_shows_some_of_its_samples(tmp_path, build):
    folder = build['pictures'](build['run'](tmp_path), steps=range(10, 510, 10), samples=('a', 'b', 'c', 'd'))
    text = ''.join(pictures.sample_section(Ids(), load_runs([folder])[0]).content)
    assert text.count('<img ') <= pictures.MAX_FRAMES
    assert 'Shown: 3 of 4 pictures, 18 of 50 validations, evenly spread.' in text
    assert text.count(' hidden>') == text.count('<img ') - 3 + 1  # and the control, without its script


def test_pictures_and_samples(tmp_path, build, read_page):
    page = read_page(write_report(build['pictures'](build['run'](tmp_path))))
    for text in ('Best: 90.0% img_best', 'Median: 50.0% img_median', 'Worst: 5.0% img_worst', 'Image labels: dog.'):
        assert text in page.text
    assert [found['alt'] for found in page.all('img')][:2] == ['input of img_best', 'CAM of img_best']
    (box,) = page.all('input', type='range')
    assert (box['min'], box['max'], box['value']) == ('0', '2', '2')
    frames = [found for found in page.all('img') if 'data-step' in found]
    assert [(found['data-step'], 'hidden' in found) for found in frames] == 2 * [
        ('20', True),
        ('40', True),
        ('60', False),
    ]
    colours = [found['style'] for found in page.all('i') if 'background:rgb' in found.get('style', '')]
    assert colours == [f'background:rgb({rgb})' for rgb in ('0,0,0', '128,0,0', '0,128,0', '0,0,128')]


def test_half_written_samples_are_left_out_with_a_note(tmp_path, build, read_page):
    folder = build['pictures'](build['run'](tmp_path))
    images = folder / '20261122_101112' / 'vis_data' / 'vis_image'
    for name in ('sample_s1_60.png', 'sample_s2_60.png', 'sample_s2_20.png'):
        path = images / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    page = read_page(write_report(folder))
    frames = [(found['alt'].split()[0], found['data-step']) for found in page.all('img') if 'data-step' in found]
    assert frames == [('s1', '20'), ('s1', '40'), ('s2', '40')]
    (box,) = page.all('input', type='range')
    assert box['max'] == '1' and page.all('div', **{'data-scrub': '[20, 40]'})
    assert 'cannot be read (a run that was killed leaves such): sample_s1_60.png sample_s2_20.png' in page.text
    for path in images.iterdir():
        path.write_bytes(b'')
    page = read_page(write_report(folder))
    assert not page.all('input', type='range') and 'sample_s1_20.png' in page.text


@pytest.mark.parametrize(
    ('panel', 'settings', 'expected'),
    [
        (
            'training label',
            {},
            ('The panel "training label" is what the model learns from: the CAM at two thresholds', 1),
        ),
        ('training label', {}, ('two thresholds, refined with dCRF, with', 1)),
        ('training label', {'model.pseudo_label.refine': 'par'}, ('two thresholds, refined with PAR, with', 1)),
        ('training label', {'model.pseudo_label.refine': 'none'}, ('two thresholds, not refined, with', 1)),
        ('training label', {'model.pseudo_label.crf': None}, ('two thresholds, not refined, with', 1)),
        ('pseudo label', {}, ('The panel "pseudo label" is what the model learns from', 1)),  # an older record of CSRM
        (
            'pseudo label',
            {'model.type': 'CAMClassifier', 'model.cam_head.type': 'CAMHead'},
            ('The panel "pseudo label" is what Pseudo-label mIoU scores: the CAM of', 0),
        ),
    ],
)
def test_what_the_panel_of_labels_is(tmp_path, build, read_page, panel, settings, expected):
    folder = build['pictures'](build['run'](tmp_path, settings=settings))
    path = folder / 'record' / 'pictures.json'
    content = json.loads(path.read_text())
    for item in content['items']:
        item['panels'][2]['name'] = panel
    build['write'](path, content)
    text = read_page(write_report(folder)).text
    assert expected[0] in text and text.count('It is not what Pseudo-label mIoU scores') == expected[1]
    assert 'each over the classes in its mask or its prediction' in text
