"""Numbers and names as they stand in reports and tables."""

import math


def percent(value: float) -> float | None:
    """A fraction in percent, rounded to 4 digits after the point; None where it is not defined.

    Args:
        value (float): In 0..1, as a rule; NaN where a score is not defined, as the IoU of a class that does not occur.

    Returns:
        float | None: The percents; a plain float also for a number of NumPy, so that JSON takes it.

    Example:
        >>> percent(0.123456789)
        12.3457
        >>> percent(float('nan')) is None
        True
    """
    value = float(value)
    return None if math.isnan(value) else round(100 * value, 4)


def cell(value: float | None) -> str:
    """A score as the cell of a table: two digits after the point, ``-`` for None.

    Args:
        value (float, optional): What :func:`percent` gives.

    Example:
        >>> cell(12.3457), cell(None)
        ('12.35', '-')
    """
    return '-' if value is None else f'{value:.2f}'


def whose_weights(network: str) -> str:
    """What a network predicts with, for a sentence; what is in brackets behind its name stays behind.

    Args:
        network (str): As records name it, see :func:`csrm_plugin.engine.testing.weights_of`.

    Example:
        >>> whose_weights('teacher')
        "teacher's weights"
        >>> whose_weights('student (the teacher is frozen)')
        "student's weights (the teacher is frozen)"
    """
    name, bracket, why = network.partition(' (')
    return f"{name}'s weights{bracket}{why}"
