"""Where models run, and whether there is room."""

import torch

from csrm_plugin.utils import UserError

#: What the allocators of CPU and GPU say, in several versions of torch.
_MEMORY_WORDS = ("can't allocate memory", 'not enough memory', 'out of memory')


def choose_device(device: str | None) -> torch.device:
    """The device of a name, such as ``'cuda:1'``; ``'auto'`` or None is CUDA where there is one.

    Raises:
        UserError: If there is no such device.
    """
    if device in (None, 'auto'):
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        text = (str(error).splitlines() or [''])[0]
        raise UserError(f'--device {device}: there is no such device ({text}); use cpu or auto') from error
    return chosen


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get the memory it asked for, on a GPU or on the CPU.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError('shapes do not fit'))
        (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
