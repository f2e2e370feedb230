"""What knows nothing of segmentation: errors, files, pictures, processes, progress, devices, shards, text, tools."""

from csrm_plugin.utils.errors import MissingFileError, UserError
from csrm_plugin.utils.files import atomic_write, write_json

__all__ = ['MissingFileError', 'UserError', 'atomic_write', 'write_json']
