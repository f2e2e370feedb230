"""Settings of runs: those that differ, the main ones, and all of them; versions and the revision of the code."""

import re
from collections.abc import Sequence

from csrm_plugin.config.provenance import SOURCES
from csrm_plugin.report.page import layout
from csrm_plugin.report.page.formats import NONE, setting
from csrm_plugin.report.page.markup import details, join, table, tag
from csrm_plugin.report.runs.differences import SEED, compare, differences, making_of_run
from csrm_plugin.report.runs.run import Run

#: Settings that say most about a run, whatever its method.
_MAIN = re.compile(
    r'^(model\.type|model\.backbone\.(type|depth)|model\.(loss_\w+\.loss_weight|pseudo_label\.([\w.]*threshold|refine)|'
    r'reliability\.\w+|mix_prob|bank_capacity)|optim_wrapper\.optimizer\.(type|lr|weight_decay)|train_cfg\.max_\w+|'
    r'global_batch_size|train_dataloader\.(batch_size|dataset\.(type|ann_file|data_root|pseudo_label_dir)))$'
)
#: Differing settings that are shown at once; of more, only the main ones are, and the rest is folded away.
_SHOWN = 24


def differing_settings(runs: Sequence[Run]) -> dict[str, list]:
    """Settings that are not the same in all runs: key to one value per run (None where a run lacks it).

    The seed, the config, the starting weights and the folders of the data count as settings. Runs without a record
    are left out of the comparison, with None.
    """
    flat = [_all_settings(run) for run in runs]
    known = [settings for run, settings in zip(runs, flat) if run.settings]
    if len(known) < 2:
        return {}
    keys = sorted(differences(known), key=lambda key: (not _is_main(key), key))
    return {key: [settings.get(key) if run.settings else None for run, settings in zip(runs, flat)] for key in keys}


def code_differences(runs: Sequence[Run]) -> list[str]:
    """What the runs were made with that is not the same in all: the revision of the code, and names of packages."""
    found = compare([making_of_run(run) for run in runs])
    words = ['the revision of the code'] if found.revision else []
    words += ['changes of the code that are not committed'] if found.uncommitted else []
    return words + [f'the version of {name}' for name in found.versions]


def unknown_parts(runs: Sequence[Run]) -> list[str]:
    """What may differ between runs without being seen, as sentences."""
    makings = [making_of_run(run) for run in runs]
    unknown, lines = compare(makings).unknown, []
    if 'sources' in unknown:
        lines.append('Which folders the data came from was not recorded for all of them.')
    if 'revision' in unknown:
        lines.append('The revision of the code was not recorded for all of them.')
    if any(making.git.get('dirty') for making in makings):
        lines.append('The code had changes that are not committed, which may differ.')
    return lines


def settings_section(runs: Sequence[Run]) -> layout.Section:
    """The section on settings."""
    recorded = [run for run in runs if run.settings]
    if not recorded:
        return layout.Section('Settings', [])
    content = _compared(runs) if len(runs) > 1 else [_main_table(runs[0])]
    return layout.Section(
        'Settings that differ' if len(runs) > 1 else 'Settings', [*content, *map(_everything, recorded)]
    )


def versions_section(runs: Sequence[Run]) -> layout.Section:
    """Versions, git revision and seed of each run."""
    names = dict.fromkeys(name for run in runs for name in run.info.get('versions') or {})
    rows = [['seed', *(NONE if run.seed is None else str(run.seed) for run in runs)]]
    rows += [['code (git)', *(_revision(run.info.get('git')) for run in runs)]]
    rows += [[name, *((run.info.get('versions') or {}).get(name, NONE) for run in runs)] for name in names]
    if all(cell == NONE for row in rows for cell in row[1:]):
        return layout.Section('Versions', [])
    for row in rows:
        row[0] = join(row[0], ' (differs)') if len(set(row[1:])) > 1 and len(runs) > 1 else row[0]
    caption = 'What the numbers were made with.'
    return layout.Section('Versions', [table(['', *(run.label for run in runs)], rows, caption, cls='compact')])


def _all_settings(run):
    """What a run was made with, flat, the seed among it."""
    making = making_of_run(run)
    return {**making.settings, **({} if making.seed is None else {SEED: making.seed})}


def _is_main(key):
    return key in ('config', SEED, 'load_from') or bool(_MAIN.match(key))


def _compared(runs):
    differing = differing_settings(runs)
    content = []
    without = [run.label for run in runs if not run.settings]
    if without:
        content.append(tag('p', f'Not recorded, so not compared: {", ".join(without)}.', cls='note'))
    if not differing:
        recorded = [run for run in runs if run.settings]
        return [*content, tag('p', _same(recorded)) if len(recorded) > 1 else None]
    head = ['Setting', *(run.label for run in runs)]
    rows = [
        [tag('code', key), *(_value(run, key, value) for run, value in zip(runs, values))]
        for key, values in differing.items()
    ]
    caption = f'{len(rows)} settings that differ. {NONE} stands for one that the run does not have.'
    if len(rows) == 1:
        caption = caption.replace('settings that differ', 'setting that differs')
    first = len(rows) if len(rows) <= _SHOWN else sum(map(_is_main, differing)) or _SHOWN
    content.append(table(head, rows[:first], caption))
    if first < len(rows):
        more = table(head, rows[first:], 'The other settings that differ.')
        content.append(details(f'{len(rows) - first} more settings that differ', more))
    return content


def _same(runs):
    """That no setting differs, with what does, or may."""
    code = code_differences(runs)
    text = f'The settings of these runs are the same{", but not " + " and ".join(code) if code else ""}.'
    return ' '.join([text, *unknown_parts(runs)])


def _value(run, key, value):
    there = key in _all_settings(run)
    if not there and run.settings and 'sources' not in run.info and key.rsplit('.', 1)[-1] in SOURCES:
        return 'not recorded'
    return tag('code', setting(value)) if there and run.settings else NONE


def _main_table(run):
    settings = _all_settings(run)
    rows = [
        [tag('code', key), tag('code', setting(settings[key]))] for key in sorted(settings, key=_rank) if _is_main(key)
    ]
    return table(['Setting', 'Value'], rows, 'The main settings.', cls='compact') if rows else None


def _rank(key):
    return (key not in ('config', 'load_from', SEED), key)


def _everything(run):
    settings = _all_settings(run)
    rows = [[tag('code', key), tag('code', setting(value))] for key, value in sorted(settings.items())]
    shown = table(['Setting', 'Value'], rows, f'All settings of {run.label} that can change a result.')
    return details(f'All {len(rows)} settings of {run.label}', tag('div', shown, cls='tall'))


def _revision(git):
    if not git or not git.get('revision'):
        return NONE
    return str(git['revision'])[:10] + (' with changes that are not committed' if git.get('dirty') else '')
