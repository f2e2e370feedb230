"""Where models run."""

import torch

from csrm_plugin.utils import UserError


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
