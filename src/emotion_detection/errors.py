"""The exceptions of this project; every message says what was wrong and what to do next.

    EmotionError
      ParamsError         params.yaml has an unknown key, a wrong type or a value out of range
      SourceError         data.source or data.votes is missing, unreadable or not laid out as expected
      ImageError          bytes that cannot be used as an image
        NotAnImage          no known image format              (HTTP 415)
        BrokenImage         a known format, but undecodable    (HTTP 422)
        ImageTooLarge       more bytes or pixels than allowed  (HTTP 413)
      ValidationFailed    a critical expectation about the data set does not hold
      ArtifactError       a file between two stages is missing, altered or cannot be written
        BundleError         a ModelBundle does not verify
          GoldenMismatch      it answers the golden faces otherwise than at training
      ExportError         the exported graph does not answer as the trained model does
      ExplanationError    a model cannot be explained in the way that was asked for
      RegistryError       MLflow cannot be reached, or has no such run, version or alias
        NoSuchVersion       it answers, and has no such version or alias
      PromotionRefused    the gate said no
      TuningError         the database of a study cannot be used, or none of its trials came to an end
      FaceModelError      the file of the face detector is missing, altered or cannot be fetched
      DetectionError      a server or a camera does not answer, or the command asks for what does not go together
      EngineError         Ray is not installed, cannot be reached, or its workers died too often
      FeedbackError       what people said of answers cannot be read or written, or its faces not be decrypted

A user's mistake ends as one of these, never as a stack trace: the entry points run inside `reported()`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class EmotionError(Exception):
    """Base of all errors that a user can act upon."""


class ParamsError(EmotionError):
    """The parameter file has an unknown key, a wrong type or a value out of range."""


class SourceError(EmotionError):
    """`data.source` or `data.votes` is missing, unreadable or not laid out as expected."""


class ImageError(EmotionError):
    """Bytes that cannot be used as an image."""


class NotAnImage(ImageError):
    """The bytes are of no image format that is read here."""


class BrokenImage(ImageError):
    """The format is known, but the bytes cannot be decoded."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than allowed; found from the header, before anything is decoded."""


class ValidationFailed(EmotionError):
    """A critical expectation about the data set does not hold."""


class ArtifactError(EmotionError):
    """A file between two stages is missing, altered or cannot be written."""


class BundleError(ArtifactError):
    """A ModelBundle is incomplete or does not match its checksums."""


class GoldenMismatch(BundleError):
    """A model answers the golden faces of its bundle otherwise than it did when it was trained."""


class ExportError(EmotionError):
    """The exported graph does not answer as the trained model does."""


class ExplanationError(EmotionError):
    """A model cannot be explained in the way that was asked for."""


class RegistryError(EmotionError):
    """MLflow cannot be reached, or has no such run, version or alias."""


class NoSuchVersion(RegistryError):
    """MLflow answers, and has no such version or alias."""


class PromotionRefused(EmotionError):
    """The gate said no."""


class TuningError(EmotionError):
    """The database of a study cannot be used, or none of its trials came to an end."""


class FaceModelError(EmotionError):
    """The file of the face detector is missing, altered or cannot be fetched."""


class DetectionError(EmotionError):
    """A server or a camera does not answer, or the command asks for what does not go together."""


class EngineError(EmotionError):
    """Ray is not installed, cannot be reached, or its workers died too often."""


class FeedbackError(EmotionError):
    """What people said of answers cannot be read or written, or its faces cannot be decrypted."""


@contextmanager
def reported() -> Iterator[None]:
    """Print an `EmotionError` as `error: ...` on standard error and exit with status 1."""
    try:
        yield
    except EmotionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
