"""One part of a list of pictures for each process, GPU or Slurm array job."""

import re
from collections.abc import Iterable

from csrm_plugin.utils import UserError


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``, the part ``i`` (from 0) of ``n``.

    Raises:
        UserError: If the text has another form or ``i`` is not below ``n``.

    Example:
        >>> parse_shard('1/4')
        (1, 4)
    """
    match = re.fullmatch(r'(\d+)/(\d+)', text.strip())
    if match is None or int(match.group(1)) >= int(match.group(2)):
        raise UserError(
            f'--shard must be i/n with i from 0 to n - 1, for example 0/4, 1/4, 2/4 and 3/4, but is `{text}`. '
            'In a Slurm array 0-3: `--shard $SLURM_ARRAY_TASK_ID/4`.'
        )
    return int(match.group(1)), int(match.group(2))


def take_shard(items: Iterable, shard: tuple[int, int]) -> list:
    """Every ``n``-th of ``items`` from the ``i``-th on: the shards share no item and miss none.

    Example:
        >>> take_shard('abcde', (1, 2))
        ['b', 'd']
    """
    index, count = shard
    return list(items)[index::count]
