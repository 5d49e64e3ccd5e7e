"""Write VOC annotation files for the tests of reader and validator."""

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def xml(*objects, filename="a.png", size=(8, 6)):
    """Return the text of a VOC file; an object is (name, corners) or (name, corners, difficult)."""
    rows = "".join(OBJECT.format(*o[1], name=o[0], difficult=o[2] if len(o) > 2 else 0) for o in objects)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{rows}</annotation>"
