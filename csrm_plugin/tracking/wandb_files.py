"""What the W&B backend keeps in a work directory, and what it takes from the project's folder."""

import os
import os.path as osp
import shutil
from dataclasses import asdict, dataclass, field

from mmengine.logging import print_log

from csrm_plugin.tracking.record import read_json
from csrm_plugin.utils import UserError, write_json

#: Name of the file in the work directory that says which run it is.
RUN_FILE = 'wandb_run.json'

#: Folders and endings of the files that are the project's code.
CODE_FOLDERS = ('csrm_plugin', 'tools', 'mmcfg', 'sweeps')
CODE_ENDINGS = ('.py', '.yaml', '.md')

#: Length of a run's file of W&B in which nothing is.
HEADER_BYTES = 7

_ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@dataclass
class RunNote:
    """Which run a work directory belongs to, so that a resumed training goes on with it.

    Attributes:
        id (str): W&B's id of the run.
        step (int): The last iteration that was given to it; -1 for none.
        parts (list[dict]): One for each start: ``folder`` (relative to the work directory where it is inside),
            ``mode`` (``online`` or ``offline``) and whether it ``ended`` as it should.
    """

    id: str
    step: int = -1
    parts: list = field(default_factory=list)

    def save(self, work_dir: str) -> None:
        """Write it, by renaming a finished file."""
        write_json(osp.join(work_dir, RUN_FILE), asdict(self))

    def add_part(self, work_dir: str, folder: str, mode: str) -> None:
        """Note a start."""
        inside = osp.relpath(folder, work_dir)
        place = osp.abspath(folder) if inside.startswith(os.pardir) else inside
        self.parts.append({'folder': place, 'mode': mode, 'ended': False})

    def not_sent(self, work_dir: str) -> list[str]:
        """Folders of the offline parts that `wandb sync` has not sent, in their order."""
        parts = [part for part in self.parts if part['mode'] == 'offline']
        return [osp.join(work_dir, part['folder']) for part in parts if not _was_sent(work_dir, part)]


def _was_sent(work_dir, part):
    """Whether nothing of an offline part is left to be sent."""
    folder = osp.join(work_dir, part['folder'])
    names = os.listdir(folder) if osp.isdir(folder) else []
    # The client writes in blocks, so that what was killed early is a header alone.
    if not any(name.endswith('.wandb') and osp.getsize(osp.join(folder, name)) > HEADER_BYTES for name in names):
        return True
    # `wandb sync` marks as synced only what ends as it should, which a run that was killed does not.
    ends = ('.synced',) if part['ended'] else ('.synced', '.syncstate')
    return any(name.endswith(ends) for name in names)


def read_note(work_dir: str) -> RunNote | None:
    """The note in a work directory; None without one. One that is broken counts as none, and the log says so."""
    path = osp.join(work_dir, RUN_FILE)
    if not osp.isfile(path):
        return None
    try:
        content = read_json(path)
        note = RunNote(str(content['id']), int(content['step']), list(content['parts']))
        note.not_sent(work_dir)
        return note
    except (UserError, KeyError, TypeError, ValueError):
        print_log(f'W&B: {path} is broken, so that a new run is begun.', logger='current')
        return None


def code_files(root: str | os.PathLike = _ROOT) -> list[str]:
    """The project's own code: paths relative to its folder, sorted.

    Where the package is installed without its surroundings, the folders beside it are somebody else's.

    Args:
        root (str): Folder that holds ``csrm_plugin``.
    """
    alone = not all(osp.isdir(osp.join(root, name)) for name in CODE_FOLDERS)
    found = []
    for folder in CODE_FOLDERS[:1] if alone else CODE_FOLDERS:
        for place, folders, names in os.walk(osp.join(root, folder)):
            folders[:] = [name for name in folders if not name.startswith(('.', '__'))]
            found += [osp.relpath(osp.join(place, name), root) for name in names if name.endswith(CODE_ENDINGS)]
    return sorted(found)


def copy_code(target: str | os.PathLike, root: str | os.PathLike = _ROOT) -> int:
    """Copy :func:`code_files` into a folder; gives their number."""
    files = code_files(root)
    for name in files:
        path = osp.join(target, name)
        os.makedirs(osp.dirname(path), exist_ok=True)
        shutil.copyfile(osp.join(root, name), path)
    return len(files)
