"""GET /recommend: a song for an emotion, out of the catalogue that the setting `catalogue` names.

curl '127.0.0.1:8000/recommend?emotion=happy'
curl '127.0.0.1:8000/recommend?emotion=happy&session=...'         # the session of the answer before: no song twice
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.context import context_of
from serving.errors import InvalidRequest
from serving.problems import documented
from serving.schemas import Recommendation, RecommendOptions

router = APIRouter()


@router.get("/recommend", summary="A song for an emotion", responses=documented(InvalidRequest))
async def recommend(
    request: Request, response: Response, options: Annotated[RecommendOptions, Query()]
) -> Recommendation:
    """Songs near the mood come more often; none comes twice in a session before all of its emotion have come.

    Without a session a new one begins; name it in the next request. Sessions are kept in memory, for an hour after
    their last request.
    """
    playlists = context_of(request).playlists
    try:
        choice = playlists.choose(options.emotion, options.session)
    except KeyError:
        known = ", ".join(playlists.catalogue)
        raise InvalidRequest(f"query.emotion: found {options.emotion!r}; the catalogue knows {known}") from None
    response.headers["Cache-Control"] = "no-store"
    song = choice.song
    return Recommendation(
        emotion=options.emotion,
        title=song.title,
        artist=song.artist,
        distance=song.distance,
        session=choice.session,
        left=choice.left,
    )
