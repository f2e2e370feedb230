import pytest

from csrm_plugin.inference.arguments import require_writable
from csrm_plugin.utils import UserError


def test_require_writable(tmp_path):
    (tmp_path / 'file').write_text('')
    require_writable(tmp_path / 'new' / 'x.json', '--json')
    require_writable(tmp_path / 'file', '--json')
    assert not (tmp_path / 'new').exists()
    for path, message in ((tmp_path, 'is a folder'), (tmp_path / 'file' / 'x.json', 'is no folder')):
        with pytest.raises(UserError, match=f'--json.*{message}'):
            require_writable(path, '--json')
