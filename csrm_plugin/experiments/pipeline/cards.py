"""Cards: what a stage of a run was made from, with what, how long it took and what came out, as one JSON file.

A run is a folder with one sub-folder per stage, and each of those holds ``card.json``. Cards name no host, no user and
no absolute path beyond what the user gave, so that two of them can be compared across machines.
"""

import json
import os.path as osp

from csrm_plugin.utils import MissingFileError, UserError, write_json

#: Name of the file in the folder of a stage.
CARD = 'card.json'

#: File in the folder of a run that says what the run is; reports read it.
SUMMARY = 'pipeline.json'

#: What every card has.
REQUIRED = ('stage', 'kind', 'run', 'number', 'status')

#: Parts of a card that are JSON objects, or null, where they are there.
OBJECTS = (
    'key_parts',
    'config',
    'versions',
    'git',
    'data',
    'inputs',
    'outputs',
    'time',
    'memory',
    'scores',
    'context',
    'choice',
)


def choice_line(choice: dict) -> str:
    """How the threshold of a stage was chosen, for people.

    Args:
        choice (dict): Of its card: ``split``, ``threshold``, ``miou`` (percent) and ``pictures``; the last two are None
            where the split has no masks.
    """
    split, threshold = choice['split'], choice['threshold']
    if choice['miou'] is None:
        return f'{split} has no masks to choose a threshold with: {threshold:g} is the fixed one of the pipeline.'
    return (
        f'threshold {threshold:g}, chosen with the masks of {split} ({choice["pictures"]} pictures): there the CAMs '
        f'have mIoU {choice["miou"]:.1f} without dCRF.'
    )


def write_card(folder: str, card: dict) -> str:
    """Write the card of a stage, by renaming a finished file.

    Args:
        folder (str): Folder of the stage; made if it is not there.
        card (dict): See the module; NaN becomes null.

    Returns:
        str: Path of the file.

    Raises:
        ValueError: If one of :data:`REQUIRED` is missing.
    """
    missing = [name for name in REQUIRED if name not in card]
    if missing:
        raise ValueError(f'the card for `{folder}` lacks {", ".join(missing)}')
    path = osp.join(folder, CARD)
    write_json(path, card)
    return path


def read_card(folder: str) -> dict | None:
    """The card in the folder of a stage; None where there is none.

    Raises:
        UserError: If the file is no card.
    """
    path = osp.join(folder, CARD)
    return read_card_file(path) if osp.isfile(path) else None


def read_card_file(path: str) -> dict:
    """Read one card.

    Raises:
        UserError: If the file is no JSON object, or lacks what every card has.
        MissingFileError: If there is no such file.
    """
    mend = 'remove it and run the stage again'
    try:
        with open(path, encoding='utf-8') as file:
            card = json.load(file)
    except FileNotFoundError as error:
        raise MissingFileError(f'card `{path}` does not exist') from error
    except ValueError as error:
        raise UserError(f'card `{path}` is no JSON: {error}; {mend}') from error
    if not isinstance(card, dict):
        raise UserError(f'card `{path}` must hold a JSON object; {mend}')
    missing = [name for name in REQUIRED if name not in card]
    if missing:
        raise UserError(f'card `{path}` lacks {", ".join(missing)}; {mend}')
    wrong = [name for name in OBJECTS if not isinstance(card.get(name), (dict, type(None)))]
    if wrong or isinstance(card['number'], bool) or not isinstance(card['number'], (int, float)):
        what = f'`{wrong[0]}` is no JSON object' if wrong else f'`number` is {card["number"]!r}'
        raise UserError(f'card `{path}`: {what}; {mend}')
    return card
