"""Settings that have another name now, and what a user who has the old one is told."""

from collections.abc import Iterator, Mapping

from csrm_plugin.config.keys import takes
from csrm_plugin.utils import UserError

#: Old dotted key -> new one, each without the indices of lists. What lies below an old key lies below the new one.
#: A class at that place that has a parameter of the old name, such as a user's own, may have it.
RENAMED: dict[str, str] = {
    'model.label_stride': 'model.pseudo_label.stride',
    'model.cam_scales': 'model.pseudo_label.scales',
    'model.cam_flip': 'model.pseudo_label.flip',
    'val_evaluator.pseudo_label': 'model.test_cfg.pseudo_label',
    'test_evaluator.pseudo_label': 'model.test_cfg.pseudo_label',
}


def refuse_renamed(cfg: Mapping, where: str, table: Mapping[str, str] | None = None) -> None:
    """Raise if a config has a setting by its old name.

    Args:
        cfg (Mapping): The whole config, nested.
        where (str): Where the settings are from, as the message begins.
        table (Mapping[str, str], optional): Old dotted key to new one; :data:`RENAMED` by default.

    Raises:
        UserError: Naming the old and the new key of the first one.

    Example:
        >>> refuse_renamed({'model': {'stride': 2}}, 'config `a.py`', {'model.stride': 'model.label.stride'})
        Traceback (most recent call last):
        ...
        csrm_plugin.utils.errors.UserError: config `a.py`: `model.stride` is now called `model.label.stride`
    """
    for old, new in (RENAMED if table is None else table).items():
        for key in _find(cfg, old.split('.')):
            raise UserError(f'{where}: `{key}` is now called `{new}`')


def refuse_renamed_options(options: Mapping, cfg: Mapping, table: Mapping[str, str] | None = None) -> None:
    """Raise if an option of a command line sets something by its old name.

    Args:
        options (Mapping): Dotted key to value, flat.
        cfg (Mapping): The config that they override, nested: its types decide whether a name is an old one.
        table (Mapping[str, str], optional): Old dotted key to new one; :data:`RENAMED` by default.

    Raises:
        UserError: Naming the old and the new key of the first one.
    """
    for old, new in (RENAMED if table is None else table).items():
        parts = old.split('.')
        for key in options:
            named = [part for part in key.split('.') if not part.isdigit()]
            if named[: len(parts)] == parts and not _taken(cfg, key.split('.'), len(parts), options):
                rest = ''.join(f'.{part}' for part in named[len(parts) :])
                raise UserError(f'--cfg-options: `{key}` is now called `{new}{rest}`')


def _find(node, parts: list[str], above: str = '') -> Iterator[str]:
    """Dotted keys, list indices included, at which ``parts`` is present below ``node`` and no class takes it."""
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _find(item, parts, f'{above}{index}.')
    elif isinstance(node, Mapping) and parts[0] in node:
        if len(parts) > 1:
            yield from _find(node[parts[0]], parts[1:], f'{above}{parts[0]}.')
        elif not takes(node.get('type'), parts[0]):
            yield f'{above}{parts[0]}'


def _taken(cfg, parts: list[str], depth: int, options: Mapping) -> bool:
    """Whether the class in ``cfg`` that gets the part of ``parts`` at ``depth``, counted without indices, takes it."""
    node, path, seen = cfg, [], 0
    for part in parts:
        seen += not part.isdigit()
        if seen == depth:
            kind = options.get('.'.join([*path, 'type']), node.get('type') if isinstance(node, Mapping) else None)
            return takes(kind, part)
        path.append(part)
        if isinstance(node, Mapping):
            node = node.get(part)
        else:
            node = node[int(part)] if isinstance(node, (list, tuple)) and int(part) < len(node) else None
    return False
