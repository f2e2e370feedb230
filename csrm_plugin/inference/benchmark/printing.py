"""A comparison as a table and lines of text."""

from rich.table import Table


def table(report: dict) -> Table:
    """Draw a report of :func:`compare_inference` or :func:`compare_refinement`.

    Args:
        report (dict): With ``rows``.

    Returns:
        rich.table.Table: Times in milliseconds, parameters in millions, multiply-adds in billions.
    """
    networks = 'parameters' in report['rows'][0]
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column('network' if networks else 'refinement', overflow='fold')
    counts = ['scales', 'stride', 'parameters M', 'used M', 'multiply-adds G'] if networks else []
    rest = ['outside backbone: G', 'ms', 'ratio'] if networks else []
    for head in [*counts, 'ms, median', 'min .. max', 'ratio', 'min .. max', *rest]:
        drawn.add_column(head, justify='right')
    for row in report['rows']:
        drawn.add_row(row['name'], *(_counts(row) if networks else ()), *_times(row), *(_rest(row) if networks else ()))
    return drawn


def _counts(row):
    count = row['parameters']
    millions = [f'{count[name] / 1e6:.2f}' for name in ('total', 'used')]
    return [row['views'], str(row['stride'] or ''), *millions, f'{row["multiply_adds"] / 1e9:.2f}']


def _times(row):
    ms, ratio = {key: value * 1e3 for key, value in row['seconds'].items()}, row['ratio']
    spread = f'{ratio["min"]:.3f} .. {ratio["max"]:.3f}'
    return [f'{ms["median"]:.0f}', f'{ms["min"]:.0f} .. {ms["max"]:.0f}', f'{ratio["median"]:.3f}', spread]


def _rest(row):
    rest, products = row['rest'], row['rest_multiply_adds']
    return [f'{products / 1e9:.2f}', f'{rest["seconds"]["median"] * 1e3:.0f}', f'{rest["ratio"]["median"]:.3f}']


def notes(report: dict) -> list[str]:
    """Lines below the table: what the figures depend on, and parameters by part."""
    context = report['context']
    settings = ', '.join(
        f'{name} {" x ".join(map(str, value)) if isinstance(value, list) else value}' for name, value in context.items()
    )
    lines = [f'Measured with {settings}. Ratios are to the first row, round by round.']
    seen = set()
    for row in report['rows']:
        if 'parameters' in row and row['name'] not in seen:
            seen.add(row['name'])
            parts = ', '.join(
                f'{name} {part["total"]:,}' + ('' if part['used'] == part['total'] else f' ({part["used"]:,} used)')
                for name, part in row['parameters']['parts'].items()
            )
            lines.append(f'Parameters of {row["name"]}: {parts}.')
    strides = {row.get('stride') for row in report['rows']}
    if len(strides) > 1:
        lines.append(
            'The last stages have different strides (pixels of the input per position): a smaller one costs more time '
            'with the same parameters.'
        )
    return lines
