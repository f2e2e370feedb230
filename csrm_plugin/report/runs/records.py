"""Records of runs, with their parts checked to be what a report takes them for."""

import os
import os.path as osp

from csrm_plugin.report.page.formats import is_number
from csrm_plugin.tracking.record import PICTURES_FILE, RUN_FILE, RunRecord, read_run, record_path
from csrm_plugin.utils import UserError

#: What parts of a record must be, where they are there: key to types, for each kind of file.
_RUN_TYPES = {
    **dict.fromkeys(('settings', 'sources', 'cost', 'versions', 'git'), dict),
    **dict.fromkeys(('classes', 'palette', 'log_dirs', 'alarms'), list),
    **dict.fromkeys(('config', 'name', 'status', 'load_from', 'checkpoint'), str),
}
_VALIDATION_TYPES = {'parts': dict, 'context': dict}
_ITEM_TYPES = {'labels': list, 'panels': list}
_WORDS = {dict: 'an object', list: 'a list', str: 'a text'}


def load_record(folder: str | os.PathLike) -> RunRecord:
    """Read the record of a run, and check that its parts are what a report takes them for.

    Raises:
        MissingFileError: If there is no such run.
        UserError: If a file of it is broken.
    """
    record = read_run(folder)
    _check_parts(record_path(folder, RUN_FILE), record.run, _RUN_TYPES)
    _check_parts(record_path(folder, RUN_FILE), record.run.get('cost') or {}, {'peak_memory_mib': dict}, 'cost: ')
    for colour in record.run.get('palette') or ():
        if not isinstance(colour, list) or len(colour) < 3 or not all(map(is_number, colour)):
            raise UserError(
                f'`{record_path(folder, RUN_FILE)}`: `palette` must hold lists of three numbers, not {colour}'
            )
    for report in record.validations:
        path = record_path(folder, f'validation_{report["iteration"]:07d}.json')
        _check_parts(path, report, _VALIDATION_TYPES)
        _check_parts(path, report.get('context') or {}, {'pseudo_label': dict, 'scales': list}, 'context: ')
        _check_parts(path, report.get('parts') or {}, dict.fromkeys(report.get('parts') or {}, dict), 'parts: ')
        for name, part in (report.get('parts') or {}).items():
            _check_parts(path, part or {}, {'iou': dict}, f'parts: {name}: ')
    _check_pictures(record_path(folder, PICTURES_FILE), record.pictures or {})
    return record


def _check_parts(path, content, types, where=''):
    for key, kind in types.items():
        if not isinstance(content.get(key), (kind, type(None))):
            raise UserError(f'`{path}`: {where}`{key}` must be {_WORDS[kind]}; remove the file, or train again')


def _check_pictures(path, content):
    """Check ``pictures.json``: objects in lists, and files that lie in the record."""
    _check_parts(path, content, {'items': list})
    inside = osp.realpath(osp.dirname(path)) + os.sep
    for index, item in enumerate(content.get('items') or ()):
        panels = item.get('panels') or () if isinstance(item, dict) else None
        if panels is not None:
            _check_parts(path, item, _ITEM_TYPES, f'picture {index}: ')
        if panels is None or any(not isinstance(panel, dict) for panel in panels):
            raise UserError(f'`{path}`: picture {index} or a panel of it is no object; remove the file, or train again')
        for panel in panels:
            file = str(panel.get('file'))
            if not osp.realpath(osp.join(inside, file)).startswith(inside):
                raise UserError(f'`{path}`: picture {index}: `{file}` lies outside {inside}; mend or remove the file')
