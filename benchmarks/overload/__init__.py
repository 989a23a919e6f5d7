"""A simulation of overload under a made-up clock: the service's own admission, scheduler, rates and
lane, around a device and decoders that are figures.
"""
