"""What the weights learned from that pyiqa ships, by the names of its metrics: a rival that has
seen a data set is no rival on it.

From pyiqa's default configurations (0.1.16) and the papers behind the weights. () learned from no
opinion scores; a metric that is not here is not known.
"""

from collections.abc import Mapping

_KONIQ = ("KonIQ-10k",)
# UNIQUE's and LIQE's training sets.
_SIX = ("LIVE", "CSIQ", "KADID-10k", "BID", "LIVE-Challenge", "KonIQ-10k")

TRAINED_ON: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("brisque", "brisque_matlab"), ("LIVE",)),
    **dict.fromkeys(("niqe", "niqe_matlab", "ilniqe", "piqe", "clipiqa", "clipscore"), ()),
    **dict.fromkeys(("dbcnn", "hyperiqa", "tres", "musiq", "liqe", "clipiqa+"), _KONIQ),
    **dict.fromkeys(("maniqa", "cnniqa", "wadiqam_nr", "topiq_nr", "arniqa", "nima-koniq"), _KONIQ),
    **dict.fromkeys(("clipiqa+_vitL14_512", "clipiqa+_rn50_512"), _KONIQ),
    **dict.fromkeys(("unique", "liqe_mix"), _SIX),
    **dict.fromkeys(("paq2piq", "musiq-paq2piq", "tres-flive", "topiq_nr-flive"), ("FLIVE",)),
    **dict.fromkeys(("arniqa-flive",), ("FLIVE",)),
    "arniqa-live": ("LIVE",),
    "arniqa-csiq": ("CSIQ",),
    "arniqa-kadid": ("KADID-10k",),
    "arniqa-clive": ("LIVE-Challenge",),
    "maniqa-kadid": ("KADID-10k",),
    "qalign": ("KonIQ-10k", "SPAQ", "KADID-10k"),
}

# Metrics that compare an image with its prompt.
OF_PROMPTS = frozenset({"clipscore"})


def remark(trained_on: tuple[str, ...] | None, data_set: str) -> str:
    """What a table prints beside a rival on that data set."""
    if trained_on is None:
        return "not known"
    if data_set in trained_on:
        return "has seen this set"
    return ", ".join(trained_on) or "no opinion scores"
