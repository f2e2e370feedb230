"""The parts of two cards of one stage that may differ, beside their scores."""

from collections.abc import Callable

from csrm_plugin.report.paper.doctor.settings import compare_settings
from csrm_plugin.report.runs.differences import compare, differences, making_of_card

#: What may differ besides scores, in the order in which it is told.
PARTS = ('data', 'inputs', 'settings', 'code', 'seed', 'versions')

#: Parts that are somebody's choice; seed and versions are what is left to chance and to the machine.
CHOICES = ('data', 'inputs', 'settings', 'code')


def differing_parts(finding: dict) -> list[str]:
    """Names of the parts that differ in a finding of :func:`.comparison.compare_runs`."""
    return [part for part in PARTS if finding[part]]


def _compare_data(here, there):
    """Splits by number of pictures and hash; those that the paper names only where the run has them."""
    mine, other = (
        {name.removeprefix('split '): split for name, split in (card.get('data') or {}).items()}
        for card in (here, there)
    )
    names = [name for name in {**other, **mine} if there['status'] != 'published' or (name in mine and name in other)]
    differing = []
    for name in names:
        a, b = (part.get(name) or {} for part in (mine, other))
        hashes = [side.get('hash') for side in (a, b)]
        if a.get('pictures') != b.get('pictures') or (None not in hashes and hashes[0] != hashes[1]):
            differing.append({'data': name, 'here': a.get('pictures'), 'there': b.get('pictures')})
    return bool(mine and other and names), differing


def _compare_inputs(here, there):
    """Names of the stages before whose keys differ."""
    if there['status'] == 'published' or here.get('inputs') is None or there.get('inputs') is None:
        return False, []
    mine, other = ({name: key for name, key in card['inputs'].items() if key is not None} for card in (here, there))
    return True, list(differences((mine, other), {**other, **mine}))


def _compare_code(here, there):
    """Hashes of the code, with the revisions where there are some."""
    makings = [making_of_card(card) for card in (here, there)]
    found = compare(makings)
    if 'code' in found.unknown or not found.code:
        return 'code' not in found.unknown, None
    shown = [making.git.get('revision') or making.code for making in makings]
    return True, dict(zip(('here', 'there'), shown))


def _compare_seed(here, there):
    """Seeds, where both have one."""
    found = compare([making_of_card(card) for card in (here, there)])
    if 'seed' in found.unknown:
        return False, None
    return True, dict(zip(('here', 'there'), found.seed)) or None


def _compare_versions(here, there):
    """Libraries of different versions, or missing on one side."""
    makings = [making_of_card(card) for card in (here, there)]
    found = compare(makings)
    if 'versions' in found.unknown:
        return False, []
    names = {**makings[1].versions, **makings[0].versions}
    return True, [
        {'library': name, **dict(zip(('here', 'there'), found.versions[name]))}
        for name in names
        if name in found.versions
    ]


#: Part -> function of both cards, which gives whether the part is known of both, and what differs.
COMPARISONS: dict[str, Callable[[dict, dict], tuple]] = {
    'data': _compare_data,
    'inputs': _compare_inputs,
    'settings': compare_settings,
    'code': _compare_code,
    'seed': _compare_seed,
    'versions': _compare_versions,
}
