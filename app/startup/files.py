"""How many files, connections among them, the process may hold open."""

import logging

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

# What the service holds beside its connections: pipes, models, shared memory, logs.
RESERVED = 128


def most_connections(wanted: int) -> int:
    """As many connections as were wanted, or as the limit on open files leaves room for; that one
    is raised first, as far as it takes and as the system allows.
    """
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + RESERVED
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # a system may have limits over its limits
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    possible = max(1, min(wanted, soft - RESERVED))
    if possible < wanted:
        logger.warning(
            "the limit of %d open files leaves room for %d connections, not for the %d of "
            "AGIQA_MAX_CONNECTIONS; raise it (ulimit -Hn)",
            soft,
            possible,
            wanted,
        )
    return possible
