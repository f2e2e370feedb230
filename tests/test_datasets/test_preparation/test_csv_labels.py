import pytest

from csrm_plugin.datasets.preparation import labels_from_csv
from csrm_plugin.utils import MissingFileError, UserError


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / 'table.csv'
        path.write_bytes(text.encode())
        return str(path)

    return write


def test_names_in_one_column(table):
    path = table('\ufeffid,labels\r\nimages/a.jpg,dog; traffic light\r\n\r\nb.c,\r\n')
    assert labels_from_csv(path) == (['dog', 'traffic light'], {'a': ['dog', 'traffic light'], 'b.c': []})
    assert labels_from_csv(path, classes=['traffic light', 'dog'])[0] == ['traffic light', 'dog']
    assert labels_from_csv(table('id,labels\na,x|y\n'), separator='|') == (['x', 'y'], {'a': ['x', 'y']})


def test_a_column_per_class(table):
    path = table('name,dog,cat\na,1,0\nb,true,1\nc,0,\n')
    assert labels_from_csv(path) == (['dog', 'cat'], dict(a=['dog'], b=['dog', 'cat'], c=[]))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'needs a header'),
        ('id,labels\n', 'at least one row'),
        ('id,dog,cat\na,1\n', 'line 2: 2 cells, but the header has 3'),
        ('id,dog,cat\na,1,2\n', "line 2, column cat: '2' is neither 0 nor 1"),
        ('id,labels\na,x\n\na.jpg,y\n', "line 4: the id 'a.jpg' is empty or there twice"),
        ('id,dog,dog\na,1,0\n', 'must be different'),
        ('id,background,dog\na,1,0\n', 'without background'),
    ],
)
def test_errors_name_the_line(table, text, message):
    path = table(text)
    with pytest.raises(UserError, match=message) as error:
        labels_from_csv(path)
    assert path in str(error.value)


def test_other_errors(table):
    with pytest.raises(UserError, match="image a has the unknown class 'cow'"):
        labels_from_csv(table('id,labels\na,cow\n'), classes=['dog'])
    with pytest.raises(MissingFileError, match=r'gone\.csv'):
        labels_from_csv('gone.csv')
