"""`pointsman data` as a user meets it: output, messages and exit statuses."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest

from pointsman.cli.main import main
from pointsman.evaluation.benchmarks import PAIR
from pointsman.evaluation.originals import originals
from pointsman.evaluation.sources import find_benchmark
from pointsman.routers.settings import BUILT_IN
from tests.fakes.web import Asked, FakeWeb, Reply, failed, said


@pytest.fixture
def gsm8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with thirty sums as GSM8K, named by POINTSMAN_DATA; and no keys around."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_DATA", str(tmp_path))
    folder = tmp_path / "benchmarks" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "contaminated_prompts.jsonl").write_text("")
    header = "prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
    sums = [f"How much is {n} plus one?" for n in range(30)]
    (folder / "gsm8k_responses.csv").write_text(
        header + "".join(f"{text},False,True\n" for text in sums)
    )
    (folder / "test.jsonl").write_text(
        "".join(
            json.dumps({"question": text, "answer": f"#### {n + 1}"}) + "\n"
            for n, text in enumerate(sums)
        )
    )
    return tmp_path


def right(asked: Asked) -> Reply:
    """A model that can add."""
    return said(f"#### {int(asked.json['messages'][0]['content'].split()[3]) + 1}")


def generate(web: FakeWeb | None, *more: str) -> list[str]:
    """The command line."""
    where = ["--base-url", f"{web.url}/v1"] if web else []
    return ["data", "generate", "--benchmark", "gsm8k", "--model", "org/m", *where, *more]


def test_data_alone_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """As every command without one."""
    assert main(["data"]) == 2
    assert {"fetch", "generate", "contamination"} <= set(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["fetch", "generate", "contamination"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That can be copied."""
    with pytest.raises(SystemExit) as caught:
        main(["data", command, "--help"])
    assert caught.value.code == 0
    assert f"\n  pointsman data {command}" in capsys.readouterr().out


# fetch


def serving(folder: Path) -> FakeWeb:
    """The publishers' files, from a data folder."""
    where = {original.address(""): folder / original.path for original in originals()}

    def respond(asked: Asked) -> Reply:
        path = where.get(unquote(asked.path).removeprefix("/raw"))
        if path is None or not path.is_file():
            return Reply(404)
        return Reply(body=path.read_bytes())

    return FakeWeb(respond)


def test_what_is_fetched_can_be_measured(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder has the layout that evaluation reads, and a second run downloads nothing."""
    command = ["data", "fetch", "--only", "mmlu", "mt-bench", "--data", str(tmp_path / "new")]
    with serving(data) as web:
        assert main([*command, "--mirror", f"{web.url}/raw"]) == 0
        assert len(web.asked) == 61
        shown = capsys.readouterr()
        assert main([*command, "--mirror", f"{web.url}/raw"]) == 0
        assert len(web.asked) == 61
    assert shown.out == f"{tmp_path / 'new'}\n"
    assert "61 fetched" in shown.err
    assert "61 there" in capsys.readouterr().err
    for name, count in (("mmlu", 14037), ("mt-bench", 72)):
        found = find_benchmark(name, data=tmp_path / "new", config=BUILT_IN)
        assert len(found.prompts) == count


def test_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the address, the reason and the remedy."""
    with FakeWeb(lambda _: Reply(404)) as web:
        status = main(["data", "fetch", "--data", str(tmp_path), "--mirror", web.url])
    shown = capsys.readouterr()
    assert status == 1
    assert shown.out == ""
    assert shown.err.startswith(f"pointsman: cannot fetch {web.url}/lm-sys/RouteLLM/")
    assert "HTTP 404" in shown.err
    assert shown.err.count("\n") == 1


def test_a_strange_mirror_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is opened."""
    assert main(["data", "fetch", "--data", str(tmp_path), "--mirror", "file:///etc"]) == 1
    assert "--mirror" in capsys.readouterr().err


# generate


def test_generated_answers_can_be_measured(gsm8k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluation finds them by the model's name."""
    with FakeWeb(right) as web:
        assert main(generate(web)) == 0
    shown = capsys.readouterr()
    path = gsm8k / "generated" / "gsm8k" / "org__m.jsonl"
    assert shown.out == f"gsm8k: org/m: 100.00 % right over 30 prompts ({path})\n"
    found = find_benchmark("gsm8k", data=gsm8k, config=BUILT_IN, weak_model="org/m")
    assert found.weak_scores.tolist() == [100.0] * 30
    assert found.pair.weak == "org/m"


def test_a_limit_is_a_sample_that_grows(gsm8k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked is not asked again."""
    with FakeWeb(right) as web:
        assert main(generate(web, "--limit", "10")) == 0
        assert len(web.asked) == 10
        assert main(generate(web, "--limit", "15")) == 0
        assert len(web.asked) == 15
    assert "over 15 prompts" in capsys.readouterr().out


def test_what_is_missing_makes_the_status_1(
    gsm8k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is asked the next time."""

    def respond(asked: Asked) -> Reply:
        return failed(500, "too hot") if " 7 plus" in asked.body.decode() else right(asked)

    with FakeWeb(respond) as web:
        assert main(generate(web, "--retries", "0")) == 1
    shown = capsys.readouterr()
    assert "too hot" in shown.err
    assert "1 of 30 questions are missing" in shown.err
    assert "over 29 prompts" in shown.out
    with FakeWeb(right) as web:
        assert main(generate(web)) == 0
    assert len(web.asked) == 1


def test_temperature_and_tokens_are_sent_as_asked(gsm8k: Path) -> None:
    """Some models take no temperature at all."""
    with FakeWeb(right) as web:
        assert main(generate(web, "--limit", "1", "--temperature", "default")) == 0
        assert main(generate(web, "--limit", "1", "--temperature", "default")) == 0
        (asked,) = web.asked
        assert set(asked.json) == {"model", "messages"}
        more = ["--model", "other", "--limit", "1", "--max-tokens", "9"]
        assert main(generate(web, *more)) == 0
    assert web.asked[1].json["max_tokens"] == 9
    assert web.asked[1].json["temperature"] == 0


def test_the_key_comes_from_the_variable_that_is_named(
    gsm8k: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is told apart from one that is not set."""
    more = ["--limit", "1", "--api-key-env", "SOME_KEY"]
    with FakeWeb(right) as web:
        assert main(generate(web, *more)) == 1
        assert "$SOME_KEY is not set" in capsys.readouterr().err
        monkeypatch.setenv("SOME_KEY", "sk-1")
        assert main(generate(web, *more)) == 0
    assert [asked.headers["authorization"] for asked in web.asked] == ["Bearer sk-1"]


def test_a_provider_elsewhere_needs_a_key(gsm8k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its usual variable is named; nothing is asked."""
    assert main(generate(None)) == 1
    assert "$OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_an_address_without_a_scheme_is_told(
    gsm8k: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not taken for a provider that lacks a key."""
    assert main(generate(None, "--base-url", "localhost:8000/v1")) == 1
    assert "`localhost:8000/v1` is no address" in capsys.readouterr().err


def test_mt_bench_needs_a_judge(gsm8k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exams need none."""
    assert main(["data", "generate", "--benchmark", "mt-bench", "--model", "m"]) == 1
    assert "--judge-model" in capsys.readouterr().err
    assert main(generate(None, "--judge-model", "j")) == 1
    assert "needs no judge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sent", "protocol"),
    [
        ([], 0, "zero-shot, temperature 1, judged by j"),
        (["--judge-temperature", "default"], None, "judged by j, its temperature default"),
    ],
)
def test_the_judge_has_a_temperature_of_its_own(
    gsm8k: Path, more: list[str], sent: int | None, protocol: str
) -> None:
    """An answer may be drawn at random; what it is worth should not be."""
    folder = gsm8k / "benchmarks" / "mt_bench"
    folder.mkdir()
    question = {"question_id": 1, "turns": ["Write a poem.", "Shorter."]}
    (folder / "question.jsonl").write_text(json.dumps(question) + "\n")
    (folder / "contaminated_prompts.jsonl").write_text("")
    rows = ({"model": model, "question_id": 1, "score": 5} for model in (PAIR.strong, PAIR.weak))
    (folder / "judgements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FakeWeb(lambda _: said("Fine. [[7]]")) as web:
        judge = ["--judge-model", "j", "--judge-base-url", f"{web.url}/v1", *more]
        told = generate(web, "--benchmark", "mt-bench", "--temperature", "1", *judge)
        assert main(told) == 0
    bodies = [asked.json for asked in web.asked]
    assert {body.get("temperature") for body in bodies if body["model"] == "j"} == {sent}
    assert {body["temperature"] for body in bodies if body["model"] != "j"} == {1}
    [row] = (gsm8k / "generated" / "mt-bench" / "org__m.jsonl").read_text().splitlines()
    assert protocol in json.loads(row)["protocol"]


@pytest.mark.parametrize(
    "more",
    [
        ["--limit", "0"],
        ["--concurrency", "x"],
        ["--temperature", "3"],
        ["--temperature", "nan"],
        ["--timeout", "0"],
        ["--retries", "-1"],
        ["--benchmark", "arc"],
    ],
)
def test_a_strange_number_is_a_wrong_command_line(
    gsm8k: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a traceback."""
    with pytest.raises(SystemExit) as caught:
        main(generate(None, *more))
    assert caught.value.code == 2
    assert more[0] in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(gsm8k: Path) -> None:
    """With status 130, as a shell expects."""
    reached, release = threading.Event(), threading.Event()

    def respond(asked: Asked) -> Reply:
        if len(web.asked) > 10:
            reached.set()
            release.wait()
        return right(asked)

    path = gsm8k / "generated" / "gsm8k" / "org__m.jsonl"
    with FakeWeb(respond) as web:
        process = subprocess.Popen(
            [sys.executable, "-m", "pointsman.cli.main", *generate(web, "--concurrency", "1")],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            reached.wait()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        finally:
            release.set()
            process.kill()
    assert process.returncode == 130
    assert "10 of 30 answers" in told
    assert "Traceback" not in told
    assert len(path.read_text().splitlines()) == 10


# contamination


@pytest.fixture
def training(gsm8k: Path) -> Path:
    """Three training prompts: a copy but for case, a near copy, and something else."""
    path = gsm8k / "training.jsonl"
    texts = ["HOW MUCH is 7  plus one?", "How much is 8 plus one", "Write a poem about cheese."]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def contamination(training: Path, *more: str) -> list[str]:
    """The command line."""
    named = ["--training", str(training), "--field", "text", "--benchmark", "gsm8k"]
    return ["data", "contamination", *named, *more]


def test_copies_are_rows(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with both texts, where it stands and how near it is."""
    assert main(contamination(training, "--cosine", "1.1")) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "training_line": 1,
        "training_prompt": "HOW MUCH is 7  plus one?",
        "benchmark": "gsm8k",
        "benchmark_prompt": "How much is 7 plus one?",
        "cosine": 1.0,
    }
    assert "1 of 3 training prompts" in shown.err


def test_benchmarks_of_the_configuration_are_compared(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be measured by name can be checked by name."""
    graded = tmp_path / "graded.jsonl"
    graded.write_text('{"prompt": "Write a poem about cheese.", "gpt": 1, "llama": 0}\n')
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"benchmarks: {{own: {{file: {graded}, strong_score: gpt, weak_score: llama}}}}"
    )
    more = ["--benchmark", "own", "--config", str(config), "--cosine", "1.1"]
    assert main(contamination(training, *more)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["benchmark"], found["training_line"]) == ("own", 3)


def test_near_copies_are_found_by_embedding(
    training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the shipped router's, on this machine."""
    assert main(contamination(training, "--cosine", "0.8")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["training_line"] for line in lines} == {1, 2}
    assert ("How much is 8 plus one?", 2) in {
        (line["benchmark_prompt"], line["training_line"]) for line in lines
    }


@pytest.mark.parametrize(("more", "status"), [([], 0), (["--fail"], 1)])
def test_a_match_fails_only_where_asked(training: Path, more: list[str], status: int) -> None:
    """For use in a pipeline's check."""
    assert main(contamination(training, "--cosine", "1.1", *more)) == status


def test_clean_data_never_fails(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints nothing."""
    training.write_text('{"text": "Write a poem about cheese."}\n')
    assert main(contamination(training, "--cosine", "1.1", "--fail")) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--field", "prompt"], "line 1: there is no field `prompt`"),
        (["--benchmark", "arc"], "no benchmark"),
        (["--cosine", "0"], "--cosine"),
        (["--cosine", "nan"], "--cosine"),
        (["--training", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--training", "/dev/null"], "no rows"),
    ],
)
def test_a_mistake_is_one_line(
    training: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """That names it."""
    assert main(contamination(training, *more)) == 1
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
