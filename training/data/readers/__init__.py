"""One file per data set, or per kind of file, in the exact layout in which it is distributed."""
