"""Names of scenes and distortions: those of MP-IQE, and how other label files call the same things.

Prompts of MP-IQE and all answers use the names of MP-IQE (arXiv 2404.14949, section III-B); LIQE's
labels (Zhang et al., CVPR 2023) are mapped to them by name.
"""

SCENES = (
    "animal",
    "cityscape",
    "human",
    "indoor scene",
    "landscape",
    "night scene",
    "plant",
    "still-life",
    "others",
)
DISTORTIONS = (
    "blur",
    "color-related",
    "contrast",
    "JPEG compression",
    "JPEG2000 compression",
    "noise",
    "over-exposure",
    "quantization",
    "under-exposure",
    "spatially-localized",
    "others",
)

# LIQE's labels, in the order of its files and of its texts, with the names that answers use.
LIQE_SCENES = {
    "animal": "animal",
    "cityscape": "cityscape",
    "human": "human",
    "indoor": "indoor scene",
    "landscape": "landscape",
    "night": "night scene",
    "plant": "plant",
    "still_life": "still-life",
    "others": "others",
}
LIQE_DISTORTIONS = {
    "jpeg2000 compression": "JPEG2000 compression",
    "jpeg compression": "JPEG compression",
    "noise": "noise",
    "blur": "blur",
    "color": "color-related",
    "contrast": "contrast",
    "overexposure": "over-exposure",
    "underexposure": "under-exposure",
    "spatial": "spatially-localized",
    "quantization": "quantization",
    "other": "others",
}
