"""The stages of a pipeline's run, by their cards."""

import os
import os.path as osp

from csrm_plugin.experiments.pipeline.cards import read_card
from csrm_plugin.utils import MissingFileError, UserError
from csrm_plugin.utils.set_aside import is_set_aside


def sub_folders(folder: str | os.PathLike) -> list[str]:
    """Paths of the direct sub-folders by name, without those that were set aside.

    Raises:
        MissingFileError: If there is no such folder.
    """
    if not osp.isdir(folder):
        raise MissingFileError(f'run `{folder}` does not exist; give the folder with one sub-folder per stage')
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir() and not is_set_aside(entry.name))


def read_stages(folder: str | os.PathLike) -> dict[str, dict]:
    """The cards of a pipeline's run, in the order of their stages; empty where no stage has one.

    Args:
        folder (str | os.PathLike): Of the run, with one sub-folder per stage.

    Returns:
        dict[str, dict]: Path of the stage's folder to its card. Folders that were set aside are not among them.

    Raises:
        MissingFileError: If there is no such folder.
        UserError: If a card is broken, or two are of the same stage.
    """
    cards = {place: read_card(place) for place in sub_folders(folder)}
    found, seen = [(place, card) for place, card in cards.items() if card is not None], {}
    for place, card in found:
        stage = card['stage']
        if stage in seen:
            raise UserError(
                f'run `{folder}`: the folders {seen[stage]} and {osp.basename(place)} both hold a card of the stage '
                f'{stage}; remove the older one'
            )
        seen[stage] = osp.basename(place)
    return dict(sorted(found, key=lambda pair: pair[1]['number']))
