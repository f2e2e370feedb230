import pytest
from PIL import Image

from csrm_plugin.utils import UserError
from csrm_plugin.visualization import require_plot_format, save_threshold_curve, threshold_figure

CURVE = [dict(threshold=0.1, miou=20.0), dict(threshold=0.2, miou=41.5), dict(threshold=0.3, miou=30.0)]


def test_the_curve_and_both_marks_are_drawn():
    figure = threshold_figure(CURVE, best=CURVE[1], fixed=dict(threshold=0.25, miou=35.0), title='a_$folder$')
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines['mIoU'] == [[0.1, 20.0], [0.2, 41.5], [0.3, 30.0]]
    assert lines['fixed: 35.00 at 0.25'] == [[0.25, 35.0]]
    assert lines['best, chosen with the ground truth: 41.50 at 0.2'] == [[0.2, 41.5]]
    assert axes.get_xlabel() == 'background threshold' and axes.get_ylabel() == 'mIoU (%)'
    assert axes.get_title() == 'a_$folder$' and not axes.title.get_parse_math()


def test_marks_may_be_missing():
    (axes,) = threshold_figure(CURVE).axes
    assert [line.get_label() for line in axes.lines] == ['mIoU']


def test_a_curve_without_points():
    with pytest.raises(ValueError, match='curve'):
        threshold_figure([])


def test_files(tmp_path):
    for name in ('new/a.png', 'new/b.svg', 'new/c.PDF'):
        save_threshold_curve(tmp_path / name, CURVE, CURVE[1], CURVE[0], 'a_$folder')
    with Image.open(tmp_path / 'new' / 'a.png') as picture:
        assert picture.format == 'PNG' and picture.width > 500
        assert len(picture.convert('RGB').getcolors(1 << 20)) > 10
    assert (tmp_path / 'new' / 'c.PDF').read_bytes().startswith(b'%PDF')
    assert b'<svg' in (tmp_path / 'new' / 'b.svg').read_bytes()
    assert len(list((tmp_path / 'new').iterdir())) == 3, 'no temporary file is left'


@pytest.mark.parametrize('name', ['a.jpeg', 'png', 'a.npz'])
def test_other_endings(tmp_path, name):
    with pytest.raises(UserError, match=r'--plot.*\.png'):
        require_plot_format(str(tmp_path / name), '--plot')
    with pytest.raises(UserError, match=r'\.png'):
        save_threshold_curve(tmp_path / name, CURVE)
    assert not list(tmp_path.iterdir())
