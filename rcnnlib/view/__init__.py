"""The pictures and exhibits of the lessons: the only place that imports matplotlib, ipywidgets and IPython."""
