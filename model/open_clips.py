"""open_clip's classes, known by name: nothing can be one of them before the package is imported, so
asking need not import it.
"""


def is_open_clips(module: object, name: str, *, exactly: bool = False) -> bool:
    """Whether an object is of open_clip's class ``name``, as "transformer.VisionTransformer", or,
    unless ``exactly`` is asked for, of one that inherits from it.
    """
    kinds = type(module).__mro__[:1] if exactly else type(module).__mro__
    return any(f"{kind.__module__}.{kind.__qualname__}" == f"open_clip.{name}" for kind in kinds)
