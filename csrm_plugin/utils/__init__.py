"""What knows nothing of segmentation: errors, files, pictures, processes, devices, text, and 255."""

from csrm_plugin.utils.errors import MissingFileError, UserError
from csrm_plugin.utils.files import atomic_write, write_json
from csrm_plugin.utils.labels import IGNORE_INDEX

__all__ = ['IGNORE_INDEX', 'MissingFileError', 'UserError', 'atomic_write', 'write_json']
