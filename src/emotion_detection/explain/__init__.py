"""Pictures that show why a model answered as it did.

    heatmaps.py    what a heat map is, occlusion, overlays; NumPy and OpenCV alone
    bundles.py     heat maps from a ModelBundle; ONNX Runtime alone, so that the server may use it
    layers.py      which layers of a Keras model say something, and where in the image their cells lie
    methods.py     Grad-CAM, attention rollout and feature maps of a Keras model
    graph.py       explain.onnx
    pictures.py    figures
    report.py      what of it stands in the report of a model
    subjects.py    what `emotion explain` can look at

A heat map is float32 (N, S, S) in [0, 1], one per image; the largest value of each is 1, or all are 0.
"""
