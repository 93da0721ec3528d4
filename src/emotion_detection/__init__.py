"""Labelled face images in, a served and watched emotion classifier out.

The modules are listed, in the order in which data flows through them, in CONTRIBUTING.md. Nothing is
imported here: the server loads `bundle` and `preprocess` alone and never pays for TensorFlow.
"""
