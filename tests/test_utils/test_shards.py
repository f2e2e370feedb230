import pytest

from csrm_plugin.utils import UserError
from csrm_plugin.utils.shards import parse_shard, take_shard


@pytest.mark.parametrize('text', ['4/4', '1', '-1/2', 'a/b', '1/0', '0/0', '1/2/3', ''])
def test_malformed_shards_are_refused_with_the_form(text):
    with pytest.raises(UserError, match=r'--shard must be i/n .* for example 0/4'):
        parse_shard(text)


def test_shards_share_nothing_and_miss_nothing():
    items = list(range(11))
    parts = [take_shard(items, parse_shard(f'{index}/4')) for index in range(4)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert take_shard(items, (0, 1)) == items
