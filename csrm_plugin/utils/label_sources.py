"""What pseudo labels are made from: the names that configs, tools and records use, and what people read."""

#: Source to its name for people. All but ``seg``, which scores the background itself, are class maps without one: they
#: are restricted to a set of classes, each divided by its own maximum (Eq. 2 of CSRM), and cut at a threshold.
SOURCES = {'cam': 'CAM', 'seg': 'segmentation', 'propagated': 'propagated CAM'}
#: Sources that are class maps without a background.
CAM_SOURCES = ('cam', 'propagated')
#: Sources that stand on more than the test pipeline, see ``WSSSSegmentor.segmentation_note``.
NOTED_SOURCES = ('seg', 'propagated')


def describe_source(source: str | None, threshold: float | None = None) -> str:
    """A source with the threshold that it is cut at, where it has one.

    Args:
        source (str | None): A key of :data:`SOURCES`; of another nothing is said.
        threshold (float, optional): In 0..1.

    Example:
        >>> describe_source('propagated', 0.4)
        'propagated CAM at 0.4'
        >>> describe_source('seg')
        'segmentation'
    """
    name = SOURCES.get(source, '')
    return name if threshold is None or not name else f'{name} at {threshold:g}'
