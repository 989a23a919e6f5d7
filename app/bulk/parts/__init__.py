"""Scoring by parts: ``agiqa score INPUT... -o FOLDER/``, for more images than one run should hold.

    inputs     what is there, cut into units    units      a unit, and the name of its part
    samples    the images of a unit             output     the folder of parts
    worker     a unit -> its part               drivers    who works on which units, here
    progress   one bar over all units           run        puts them together

Who does a unit does not matter: its part has the name that follows from the unit alone, and is
there whole or not at all. ``app.bulk.ray`` is the driver on a Ray cluster.
"""
