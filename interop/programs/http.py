"""Asks HTTP servers on loopback, past any proxy of the environment."""

import json
import urllib.error
import urllib.request

ANSWER_SECONDS_MAX = 10

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str) -> str | None:
    """Returns the body of a GET; `None` if there is no answer yet, or one that is no success."""
    try:
        with opener.open(url, timeout=ANSWER_SECONDS_MAX) as answer:
            return answer.read().decode("utf-8")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def get_json(url: str):
    """Returns what the JSON body of a GET says; `None` if there is none yet."""
    body = get(url)
    return None if body is None else json.loads(body)
