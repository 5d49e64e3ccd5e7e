"""The exhibits of the lessons, one file each: a pure function ``state -> numbers`` on top, its explorer below."""
