"""Descriptions of one's own labels, written by a language model behind any OpenAI-compatible endpoint.

The prompts are data of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al.,
ICCV 2023, Table 7): `base` is the paper's; of the others only what sets them apart is known, the rest is as in `base`.
Answers are kept in a JSON file as they arrive, so a run can be stopped at any moment and asks each question
once. The key is read from an environment variable and kept nowhere.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dadlab.files import write_json
from dadlab.fingerprints import fingerprint
from dadlab.progress import track

PROMPTS = {
    "base": "Use a single sentence to describe the appearance and shape of {}. Only describe the shape and appearance.",
    "succinct": "Use a single sentence to broadly describe the appearance and shape of {}. Only describe the shape and "
    "appearance. Don't give too much details.",
    "detailed": "Use a single sentence and short, simple, descriptive phrases to describe the detailed appearance and "
    "detailed shape of {}. Only describe the shape and appearance.",
    "distinct": "Use a single sentence to describe the unique, distinctive appearance and shape of {}. Only describe "
    "the shape and appearance.",
}
TRANSIENT = (408, 409, 429)  # and every 5xx: worth asking again


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how.

    Attributes:
        base_url: up to and without `/chat/completions`.
        model: the endpoint's name of the model.
        key_variable: environment variable that holds the key; empty for a server that wants none.
        temperature: of sampling; None leaves it to the endpoint.
        timeout: seconds an answer may take.
        tries: requests before giving up on a label.
        pause: seconds before the second request, doubled before each further one; the server's Retry-After counts
            where it is longer.

    Raises:
        ValueError: `base_url` is none of http or https, or `tries` less than one.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float | None = None
    timeout: float = 60.0
    tries: int = 6
    pause: float = 1.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} must start with http:// or https://")
        if self.tries < 1:
            raise ValueError(f"tries must be at least 1, got {self.tries}")

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def headers(self) -> dict[str, str]:
        """Raises ValueError where the key's variable is not set."""
        if not self.key_variable:
            return {"Content-Type": "application/json"}
        if not (key := os.environ.get(self.key_variable, "").strip()):
            raise ValueError(f"environment variable {self.key_variable} is not set; it should hold the key")
        return {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}


def describe(
    labels: Sequence[str],
    endpoint: Endpoint,
    answers: Path,
    *,
    prompt: str = PROMPTS["base"],
    dry_run: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, str]:
    """Ask for one description a label; write the result with `write_json` and `read_descriptions` reads it.

    Args:
        labels: names as they should be asked about.
        endpoint: where to ask.
        answers: JSON file of all answers so far, keyed by endpoint, model, temperature and question.
        prompt: the question, with one `{}` for the label.
        dry_run: print the questions still open, ask none, and return what is there.
        sleep: how to wait between tries.

    Raises:
        ValueError: the prompt has not one `{}`, the key is not set, `answers` is not readable, or the endpoint refuses.
        ConnectionError: no answer after all tries; what was answered is kept.
    """
    if prompt.count("{}") != 1:
        raise ValueError(f"prompt {prompt!r} needs exactly one {{}}, where the label goes")
    known = _read_answers(answers)
    questions = {label: prompt.replace("{}", label) for label in labels}
    entries = {label: _entry(endpoint, question) for label, question in questions.items()}
    keys = {label: fingerprint(entry) for label, entry in entries.items()}
    still_open = [label for label in questions if keys[label] not in known]
    if dry_run:
        print(f"{len(still_open)} of {len(questions)} questions for {endpoint.model} at {endpoint.url}:")
        print("\n".join(questions[label] for label in still_open))
    elif still_open:
        headers = endpoint.headers()
        for label in track(still_open, f"descriptions by {endpoint.model}"):
            answer = _ask(endpoint, headers, questions[label], sleep)
            known[keys[label]] = {**entries[label], "answer": answer}
            write_json(answers, known)
    return {label: known[key]["answer"] for label, key in keys.items() if key in known}


def _read_answers(path: Path) -> dict[str, Any]:
    if not Path(path).is_file():
        return {}
    try:
        known = json.loads(Path(path).read_text(encoding="utf-8"))
        if all(isinstance(entry["answer"], str) for entry in known.values()):
            return known
    except (ValueError, AttributeError, TypeError, KeyError):
        pass
    raise ValueError(f"{path}: not a file of answers; give another one, or move it away")


def _entry(endpoint: Endpoint, question: str) -> dict[str, Any]:
    settings = asdict(endpoint)
    return {name: settings[name] for name in ("base_url", "model", "temperature")} | {"question": question}


def _ask(endpoint: Endpoint, headers: Mapping[str, str], question: str, sleep: Callable[[float], None]) -> str:
    body: dict[str, Any] = {"model": endpoint.model, "messages": [{"role": "user", "content": question}]}
    if endpoint.temperature is not None:
        body["temperature"] = endpoint.temperature
    request = urllib.request.Request(endpoint.url, json.dumps(body).encode(), dict(headers), method="POST")
    for attempt in range(endpoint.tries):
        wait = endpoint.pause * 2**attempt
        try:
            with urllib.request.urlopen(request, timeout=endpoint.timeout) as response:
                return _content(endpoint, question, response.read())
        except urllib.error.HTTPError as error:
            with error:
                problem = f"HTTP {error.code} {_message(error.read())}".strip()
            if error.code not in TRANSIENT and error.code < 500:
                raise ValueError(f"{endpoint.url}: refused, {problem}") from None
            wait = max(wait, _seconds(error.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        if attempt + 1 < endpoint.tries:
            print(f"{endpoint.url}: {problem}; asking again in {wait:.0f} s", flush=True)
            sleep(wait)
    raise ConnectionError(
        f"{endpoint.url}: no answer after {endpoint.tries} tries, last {problem}; run again to go on from here"
    )


def _content(endpoint: Endpoint, question: str, reply: bytes) -> str:
    try:
        text = " ".join(json.loads(reply)["choices"][0]["message"]["content"].split())
    except (ValueError, LookupError, TypeError, AttributeError):
        text = ""
    if not text:
        raise ValueError(f"{endpoint.url}: the reply to {question!r} holds no text: {reply[:200]!r}")
    return text


def _message(reply: bytes) -> str:
    try:
        return str(json.loads(reply)["error"]["message"])[:200]
    except (ValueError, LookupError, TypeError):
        return ""


def _seconds(retry_after: str | None) -> float:
    try:
        return float(retry_after or 0)
    except ValueError:
        return 0.0
