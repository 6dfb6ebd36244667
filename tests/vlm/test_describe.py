import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_other_notebooks import execute

from dadlab.files import write_json
from dadlab.vlm.describe import PROMPTS, Endpoint, describe
from dadlab.vlm.text_files import read_descriptions

LABELS = ["owl", "garden gnome", "bag"]


class Stub:
    """An endpoint that plays a script of (status, headers, reply), then answers every question with its last word."""

    def __init__(self):
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[str, dict[str, str], dict]] = []

    def reply(self, body: dict) -> tuple[int, dict[str, str], bytes]:
        if self.script:
            return self.script.pop(0)
        return 200, {}, answer(f" About: \n{body['messages'][0]['content']} ")

    @property
    def questions(self) -> list[str]:
        return [body["messages"][0]["content"] for _, _, body in self.requests]


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("STUB_KEY", " sesame\n")
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.requests.append((self.path, dict(self.headers), body))
            status, headers, content = stub.reply(body)
            if status == 0:  # hang up
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield stub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(stub, tmp_path):
    """`describe` against the stub: its answers, the waits it asked for, the file."""

    def run(labels=LABELS, **options):
        settings = {name: options.pop(name) for name in ("model", "temperature", "tries", "key_variable", "base_url")
                    if name in options}  # fmt: skip
        endpoint = Endpoint(**{"base_url": stub.url, "model": "small", "key_variable": "STUB_KEY", **settings})
        return describe(labels, endpoint, tmp_path / "answers.json", sleep=run.waits.append, **options)

    run.waits = []
    run.file = tmp_path / "answers.json"
    return run


def test_every_label_is_asked_once_and_in_order(stub, ask):
    found = ask(temperature=0.5)
    assert list(found) == LABELS
    assert found["owl"] == "About: " + PROMPTS["base"].format("owl")
    assert stub.questions == [PROMPTS["base"].format(label) for label in LABELS]
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sesame"
    assert body == {"model": "small", "temperature": 0.5, "messages": [{"role": "user", "content": stub.questions[0]}]}


def test_a_temperature_of_zero_and_capitals_are_asked_for_as_they_are(stub, ask):
    ask(["Great Dane"], temperature=0.0)
    assert stub.questions == [PROMPTS["base"].format("Great Dane")]
    assert stub.requests[0][2]["temperature"] == 0


def test_the_result_is_what_read_descriptions_reads(ask, tmp_path):
    found = ask()
    write_json(tmp_path / "texts.json", found)
    assert read_descriptions(tmp_path / "texts.json", LABELS) == found


def test_the_key_is_kept_nowhere(ask):
    ask()
    assert "sesame" not in ask.file.read_text()


def test_no_temperature_and_no_key_where_none_is_wanted(stub, ask):
    ask(key_variable="", base_url=stub.url + "/")
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions"
    assert "temperature" not in body
    assert "Authorization" not in headers


def test_answers_are_asked_for_once(stub, ask):
    first = ask()
    assert ask() == first
    assert len(stub.requests) == 3
    assert list(ask([*LABELS, "cup"])) == [*LABELS, "cup"]
    assert len(stub.requests) == 4


@pytest.mark.parametrize("other", [{"model": "large"}, {"temperature": 1.0}, {"prompt": PROMPTS["distinct"]}])
def test_another_model_temperature_or_question_is_asked_anew(stub, ask, other):
    ask()
    ask(**other)
    assert len(stub.requests) == 6
    assert len(json.loads(ask.file.read_text())) == 6


def test_transient_failures_are_tried_again_with_growing_pauses(stub, ask):
    stub.script = [(429, {}, b""), (500, {}, b"oops"), (503, {}, b""), (0, {}, b"")]
    assert ask(["owl"])["owl"].startswith("About")
    assert ask.waits == [1, 2, 4, 8]
    assert len(set(stub.questions)) == 1


def test_a_pause_says_why(stub, ask, capsys):
    stub.script = [(503, {"Retry-After": "9"}, b'{"error": {"message": "overloaded"}}')]
    ask(["owl"])
    assert "HTTP 503 overloaded; asking again in 9 s" in capsys.readouterr().out


def test_the_servers_wish_to_wait_counts(stub, ask):
    stub.script = [
        (429, {"Retry-After": "7"}, b""),
        (429, {"Retry-After": "soon"}, b""),
        (429, {"Retry-After": "1"}, b""),
    ]
    ask(["owl"])
    assert ask.waits == [7, 2, 4]


def test_what_was_answered_survives_a_failure_and_is_not_asked_again(stub, ask):
    stub.script = [(200, {}, answer("Round.")), *[(500, {}, b'{"error": {"message": "overloaded"}}')] * 3]
    with pytest.raises(ConnectionError, match="no answer after 3 tries, last HTTP 500 overloaded"):
        ask(tries=3)
    assert [entry["answer"] for entry in json.loads(ask.file.read_text()).values()] == ["Round."]
    assert ask.waits == [1, 2]
    assert ask()["owl"] == "Round."
    assert stub.questions.count(PROMPTS["base"].format("owl")) == 1


def test_a_refusal_is_not_tried_again(stub, ask):
    stub.script = [(401, {}, b'{"error": {"message": "no such key"}}')]
    with pytest.raises(ValueError, match="refused, HTTP 401 no such key"):
        ask()
    assert len(stub.requests) == 1


@pytest.mark.parametrize("reply", [b"<html>", b'{"choices": []}', answer(" \n "), b'{"choices": [{"message": null}]}'])
def test_a_reply_without_text_is_named(stub, ask, reply):
    stub.script = [(200, {}, reply)]
    with pytest.raises(ValueError, match=r"of owl\..* holds no text"):
        ask()


def test_nobody_there(ask):
    with pytest.raises(ConnectionError, match="after 6 tries"):
        ask(base_url="http://127.0.0.1:9/v1")
    assert ask.waits == [1, 2, 4, 8, 16]


def test_dry_run_prints_what_is_still_open_and_asks_nothing(stub, ask, capsys, monkeypatch):
    known = ask(["bag"])
    monkeypatch.delenv("STUB_KEY")
    capsys.readouterr()
    assert ask(dry_run=True) == known
    assert capsys.readouterr().out.splitlines() == [
        f"2 of 3 questions for small at {stub.url}/chat/completions:",
        *(PROMPTS["base"].format(label) for label in LABELS[:2]),
    ]
    assert len(stub.requests) == 1


def test_a_missing_key_stops_before_the_first_question(stub, ask, monkeypatch):
    monkeypatch.delenv("STUB_KEY")
    with pytest.raises(ValueError, match="STUB_KEY is not set"):
        ask()
    assert not stub.requests


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "b"}', '{"a": {"answer": 1}}'])
def test_a_file_of_something_else_is_left_alone(stub, ask, content):
    ask.file.write_text(content)
    with pytest.raises(ValueError, match=r"answers\.json: not a file of answers"):
        ask()
    assert ask.file.read_text() == content
    assert not stub.requests


def test_prompts_have_one_place_and_differ():
    assert list(PROMPTS) == ["base", "succinct", "detailed", "distinct"]
    assert all(prompt.count("{}") == 1 for prompt in PROMPTS.values())
    assert len(set(PROMPTS.values())) == 4


@pytest.mark.parametrize(
    ("settings", "names"),
    [({"base_url": "localhost:8000"}, "base_url 'localhost:8000'"), ({"tries": 0}, "tries must be at least 1")],
)
def test_endpoint_that_cannot_be_asked(settings, names):
    with pytest.raises(ValueError, match=names):
        Endpoint(**{"base_url": "http://localhost", "model": "small", **settings})


def test_prompt_without_a_place_for_the_label(ask):
    with pytest.raises(ValueError, match=r"exactly one \{\}"):
        ask(prompt="Describe it.")


@pytest.mark.slow
def test_the_notebook_asks_nothing_before_it_is_told_to_and_then_writes_a_file_a_prompt(stub, tmp_path):
    out = tmp_path / "told"
    given = {"labels": LABELS, "asked": ["base", "distinct"], "out": str(out)}
    given |= {"base_url": stub.url, "model": "small", "key_variable": "STUB_KEY"}
    execute("vlm_ood/describe", tmp_path, **given)
    assert (stub.requests, out.exists()) == ([], False)
    execute("vlm_ood/describe", tmp_path, **given, dry_run=False, encoder="vit")
    assert len(stub.requests) == 2 * len(LABELS)
    for prompt in ("base", "distinct"):
        assert "owl" in read_descriptions(out / f"{prompt}.json", LABELS)["owl"]
