"""Two-stage object detectors, R-CNN to Faster R-CNN, written to be read.

The package is a house with floors; a module imports only from floors below it and from modules listed before it on
its own floor (``tests/test_architecture.py`` holds the list):

==========  ==================================================================================================
``types``   floor 0: what the parts hand to each other, as NamedTuples
``ops``     floor 1: boxes, anchors, NMS, sampling, pooling: pure functions of tensors
``datasets``, ``models``  floors 2 and 3: pictures with boxes; networks with weights
``engine``, ``checks``    floor 4: training, evaluation, benchmarks; what an exercise must do
``view``    floor 5: everything that draws
==========  ==================================================================================================
"""

__version__ = "0.1.0"
