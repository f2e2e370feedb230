import pytest

from csrm_plugin.report.page import palette


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast('#000000', '#ffffff') == pytest.approx(21)
    assert contrast('#767676', '#ffffff') == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize('dark', [False, True])
def test_colours_stand_out_in_both_themes(dark):
    colours = palette.variables(dark)
    for ground in ('paper', 'panel'):
        for name in ('ink', 'muted', 'accent', 'good', 'warn', 'bad'):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    marks = [name for name in colours if name.startswith(('run-', 'scale-'))]
    assert len(marks) == len(palette.RUN_COLOURS) + palette.SCALE_STEPS
    for name in marks:
        assert contrast(colours[name], colours['panel']) >= 2.9, name


@pytest.mark.parametrize('dark', [False, True])
def test_the_scale_grows_evenly_away_from_the_page(dark):
    values = [luminance(palette.variables(dark)[f'scale-{index}']) for index in range(palette.SCALE_STEPS)]
    assert values == sorted(values, reverse=not dark)


def test_stand_ins_are_distinct():
    assert len(set(palette.STAND_INS.values())) == len(palette.STAND_INS) == len(palette.variables(False))


def test_runs_differ_beyond_colour():
    looks = {(palette.run_variable(n), str(palette.run_dash(n)), palette.run_marker(n)) for n in range(12)}
    assert len(looks) == 12
    assert len({str(palette.run_dash(n)) for n in range(6)}) == len({palette.run_marker(n) for n in range(6)}) == 6


def test_steps_of_the_scale():
    assert [palette.scale_step(value, 0, 9) for value in (0, 0.99, 1, 8.9, 9)] == [0, 0, 1, 8, 8]
    assert [palette.scale_step(value, 9, 0) for value in (9, 0)] == [0, 8]  # lower is better
    assert palette.scale_step(5, 5, 5) == 8
