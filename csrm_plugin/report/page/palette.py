"""Colours of a report: each has a value for light and one for dark pages, and a stand-in that charts are drawn with.

Matplotlib writes the stand-ins into its SVG; they become CSS variables there, so that one chart serves both themes.
"""

import functools
import math

#: Name of the CSS variable -> (light, dark). Text is at least 4.5:1 against `paper` and `panel`, marks at least 3:1.
COLOURS = {
    'paper': ('#f6f7f9', '#12151a'),
    'panel': ('#ffffff', '#1b2027'),
    'ink': ('#1a212b', '#e8ebef'),
    'muted': ('#545f6d', '#a3adba'),
    'line': ('#d9dee5', '#343c47'),
    'accent': ('#0063a6', '#7cc4f5'),
    'good': ('#146c43', '#63cc98'),
    'warn': ('#8a4b00', '#f2b45c'),
    'bad': ('#b3261e', '#ff9c91'),
}

#: Colours of runs, after Okabe and Ito, made darker or lighter until they stand out from the page.
RUN_COLOURS = (
    ('#0072b2', '#56b4e9'),
    ('#c85200', '#ff9a3d'),
    ('#00805c', '#3fd0a4'),
    ('#a8437f', '#e79bc8'),
    ('#6b5b00', '#f0e442'),
    ('#4d4d4d', '#c9ced6'),
)

#: A run is known by its dash and its marker as well, for those who see no difference between two colours.
DASHES = ('-', (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)), (0, (3, 1.5, 1.5, 1.5, 1.5, 1.5)))
MARKERS = ('o', 's', '^', 'D', 'v', 'P')

#: Steps of the scale that stands for a score.
SCALE_STEPS = 9

_NAMES = (
    *COLOURS,
    *(f'run-{index}' for index in range(len(RUN_COLOURS))),
    *(f'scale-{index}' for index in range(SCALE_STEPS)),
)
#: CSS variable -> colour that charts are drawn with, which nothing else has.
STAND_INS = {name: f'#0102{index:02x}' for index, name in enumerate(_NAMES, start=0x10)}


def run_colour(index: int) -> str:
    """Stand-in of the colour of a run."""
    return STAND_INS[run_variable(index)]


def run_variable(index: int) -> str:
    """CSS variable of the colour of a run."""
    return f'run-{index % len(RUN_COLOURS)}'


def run_dash(index: int) -> str | tuple:
    """Dash of a run. After six runs the colours begin again, with other dashes."""
    return DASHES[(index + index // len(RUN_COLOURS)) % len(DASHES)]


def run_marker(index: int) -> str:
    """Marker of a run."""
    return MARKERS[(index + index // len(RUN_COLOURS)) % len(MARKERS)]


def scale_step(value: float, low: float, high: float) -> int:
    """Step of the scale, from 0 (at ``low``) to ``SCALE_STEPS`` - 1 (at ``high``), the highest where both are the same.

    Where low scores are good, ``low`` is the higher number.
    """
    if high == low:
        return SCALE_STEPS - 1
    return min(math.floor((value - low) / (high - low) * SCALE_STEPS), SCALE_STEPS - 1)


def scale_colour(value: float, low: float, high: float) -> str:
    """Stand-in of the colour of a score."""
    return STAND_INS[f'scale-{scale_step(value, low, high)}']


@functools.cache
def variables(dark: bool) -> dict[str, str]:
    """CSS variables of a theme and their values."""
    theme = int(dark)
    values = {name: pair[theme] for name, pair in COLOURS.items()}
    values |= {run_variable(index): pair[theme] for index, pair in enumerate(RUN_COLOURS)}
    return values | {f'scale-{index}': colour for index, colour in enumerate(_scale(dark))}


def _scale(dark):
    """Poor to good: the part of `plasma` that can be seen on the page; it grows evenly in lightness."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    begin, end = (0.42, 1.0) if dark else (0.63, 0.0)
    steps = (begin + (end - begin) * index / (SCALE_STEPS - 1) for index in range(SCALE_STEPS))
    return [to_hex(colormaps['plasma'](step)) for step in steps]
