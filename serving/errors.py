"""What a request can end with other than an answer; problems.py says how each is told to the client.

    EmotionError
      RequestError        about a request or the server's state, not about an image
        UnsupportedBody     neither a form nor an image                   (HTTP 415)
        MalformedForm       not the form that its content type announces  (HTTP 400)
        MissingFile         a form without an image                       (HTTP 422)
        TooManyImages       more images than one request may have         (HTTP 413)
        InvalidTensor       no inference request, or tensors that do not fit (HTTP 400)
        NoFace              nothing in the image to explain               (HTTP 422)
        ForeignOrigin       a page from elsewhere opens a stream          (HTTP 403)
        UpgradeRequired     a stream is asked for without a WebSocket     (HTTP 426)
        UnknownModel        another model or version than the served one  (HTTP 404)
        IncompleteBody      the client left while it sent the body        (HTTP 400, if anybody is there to read it)
        InvalidRequest      a parameter is unknown or has a wrong value   (HTTP 422)
        Unauthorized        without a key, or with an unknown one         (HTTP 401)
        RateLimited         too many requests by one caller               (HTTP 429)
        UnknownHost         meant for another server                      (HTTP 421)
        BadSignature        a webhook that MLflow did not sign            (HTTP 401)
        UnknownPrediction   feedback on an answer that nobody gave here   (HTTP 404)
        ExpiredPrediction   feedback on an answer of long ago             (HTTP 410)
        UnknownLabel        feedback with a label that the model lacks    (HTTP 422)
        AlreadyJudged       something else was said of that face before   (HTTP 409)
        FeedbackUnavailable feedback cannot be written down               (HTTP 503)
        ClientGone          the client left before its answer was there   (499, which nobody sees)
        NotReady            no model is loaded yet                        (HTTP 503)
        Overloaded          more waits than can be answered soon          (HTTP 503)
        TimedOut            there was no answer in time                   (HTTP 503)

What is wrong with an image is said by `emotion_detection.errors.ImageError` and its children.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emotion_detection.errors import EmotionError

MOST_MISTAKES = 3
"""That are told of one request: it may have thousands."""


class RequestError(EmotionError):
    """Base of all that can happen to a request."""


class UnsupportedBody(RequestError):
    """The content type is none that an image can come in."""


class MalformedForm(RequestError):
    """The body is not the form that its content type announces."""


class MissingFile(RequestError):
    """The form has no file in the field `file`."""


class TooManyImages(RequestError):
    """The form has more images than one request may have."""


class InvalidTensor(RequestError):
    """The body is no request of the Open Inference Protocol, or its tensor is not what the model takes."""


class NoFace(RequestError):
    """No face was found in the image, so that there is nothing to explain."""


class ForeignOrigin(RequestError):
    """A page that was not served from here, and is not allowed to, opens a WebSocket."""


class UpgradeRequired(RequestError):
    """A WebSocket is spoken here."""


class UnknownModel(RequestError):
    """A model or version is asked for that is not the one that answers."""


class IncompleteBody(RequestError):
    """The body ended before its time."""


class InvalidRequest(RequestError):
    """A parameter of the query is unknown or has a wrong value."""


class Unauthorized(RequestError):
    """No API key, or one that is unknown or over."""


class RateLimited(RequestError):
    """One caller has sent more requests than it may."""


class UnknownHost(RequestError):
    """The Host header names another server."""


class BadSignature(RequestError):
    """MLflow did not sign this, or not lately."""


class UnknownPrediction(RequestError):
    """This server gave no such answer, or there is nothing on it to delete."""


class ExpiredPrediction(RequestError):
    """The answer was given too long ago to be judged."""


class UnknownLabel(RequestError):
    """The model that answered has no such label."""


class AlreadyJudged(RequestError):
    """Something else was said of that face before."""


class FeedbackUnavailable(RequestError):
    """The file of feedback cannot be used."""


class ClientGone(RequestError):
    """The client closed the connection before its answer was there."""


class NotReady(RequestError):
    """No model is loaded yet; the message says why."""


class Overloaded(RequestError):
    """More requests wait than the server can answer soon."""


class TimedOut(RequestError):
    """There was no answer in time."""


def first_mistakes(found: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic has found, `ValidationError.errors()`, in one line."""
    told = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in found[:MOST_MISTAKES]]
    more = [f"and {len(found) - MOST_MISTAKES} more"] if len(found) > MOST_MISTAKES else []
    return "; ".join(told + more)
