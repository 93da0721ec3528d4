"""Which song comes next: near the mood more often, none twice before all have been heard.

    playlists = Playlists(read_catalogue(path))
    choice = playlists.choose("happy", session=None)
    choice.song.title, choice.session                  # the session to name next time

A session is a token and what was heard under it. They are kept in memory alone, at most `MAX_SESSIONS` of them, each
for `IDLE` seconds after its last use: whoever comes later starts anew. Several processes keep sessions of their own.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from serving.catalogue import Catalogue, Song

MAX_SESSIONS = 10_000
IDLE = 3600.0
"""Seconds."""
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Choice:
    """A song for somebody."""

    song: Song
    session: str
    left: int
    """Songs for this emotion that the session has not heard yet."""


@dataclass(slots=True)
class _Session:
    heard: int
    """Bit `number` is set for a song that was heard."""
    used: float
    """`time.monotonic()`"""


class Playlists:
    """The sessions of one application; belongs to one event loop."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # least recently used first

    def choose(self, emotion: str, session: str | None) -> Choice:
        """Choose a song for a session, a new one where it is none.

        Raises:
            KeyError: the catalogue has no such emotion.
        """
        songs = self.catalogue[emotion]
        token = session or secrets.token_urlsafe(16)
        state = self._session(token)
        unheard = [song for song in songs if not state.heard >> song.number & 1]
        if not unheard:
            state.heard &= ~sum(1 << song.number for song in songs)
            unheard = list(songs)
        [song] = _random.choices(unheard, [song.weight for song in unheard])
        state.heard |= 1 << song.number
        return Choice(song, token, len(unheard) - 1)

    def _session(self, token: str) -> _Session:
        now = time.monotonic()
        while self._sessions and next(iter(self._sessions.values())).used < now - IDLE:
            self._sessions.popitem(last=False)
        state = self._sessions.setdefault(token, _Session(0, now))
        state.used = now
        self._sessions.move_to_end(token)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return state
