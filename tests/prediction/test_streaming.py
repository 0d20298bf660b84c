"""Predictions on their way to disk: kills and full disks lose no batch, and what was made from something else is not mixed in.

python -m pytest tests/prediction/test_streaming.py -v
"""

import errno
import io
import json
import os
import random
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import ROOT, Killed, left_over

from config import load_config
from data.rows import group_by_image
from files import Interrupted, UserError
from prediction import run, streaming
from prediction.decode import Answer
from prediction.streaming import PredictionStream

# --- a run whose model step is a table, so that hundreds can be killed; files and batches are the real ones


def demo_rows(images):
    """Rows of the demo as enrichment would leave them, with a letter beyond ASCII."""
    rows = [json.loads(line) for line in (ROOT / "data" / "demo" / "scenes" / "val.jsonl").read_text().splitlines()]
    chosen = [row for group in group_by_image(rows)[:images] for row in group]
    extra = {"question_type": "mcq", "answer_candidates": None, "multi_label": False}
    return [{**row, **extra, "id": str(number), "answer_raw": f"{row['answer']} é"} for number, row in enumerate(chosen)]


class Run:
    """The stages of predict_exp1.main between loading and its closing lines, on the demo's rows."""

    def __init__(self, folder, monkeypatch, images=8, batch_size=2):
        self.cfg = load_config(ROOT / "config_demo.yaml", [f"predict.batch_size={batch_size}"])
        self.rows, self.out = demo_rows(images), folder / "predictions.jsonl"
        self.dataset, self.computed = FakeDataset(self.rows), []
        monkeypatch.setattr(run, "answer_questions", self.answers)

    def answers(self, model, dataset, cfg, decoding, limit, batches):
        for batch in batches:
            self.computed.append(batch)
            yield [(row, Answer(row["answer"], "free", -1 / (1 + int(row["id"])))) for index in batch for row in dataset.groups[index]]

    def __call__(self, facts=None, overwrite=False, world=1):
        streams = [PredictionStream(self.out, facts or {"adapter": "a", "code": {"decode.py": "1"}}, rank) for rank in range(world)]
        streams[0].start(overwrite)
        barrier = threading.Barrier(world)
        if world == 1:
            self.share(streams[0], 0, barrier)
        else:
            with ThreadPoolExecutor(world) as pool:
                list(pool.map(self.share, streams, range(world), [barrier] * world))
        streams[0].finish(
            [row["id"] for row in self.rows], lambda: streaming.write_json(self.out.with_suffix(".meta.json"), {"rows": len(self.rows)})
        )
        return self.out.read_bytes()

    def share(self, stream, rank, barrier):
        """What one of several processes does."""
        state = SimpleNamespace(
            process_index=rank, num_processes=barrier.parties, is_main_process=rank == 0, wait_for_everyone=barrier.wait
        )
        run.predict(None, self.dataset, self.cfg, 4, stream, state)


class FakeDataset:
    def __init__(self, rows):
        self.groups = group_by_image(rows)

    def __len__(self):
        return len(self.groups)


class Killer:
    """Dies at file operation number `at`: writing only `share` of its bytes, or before it, and never lets one through again.

    So handlers of the program, which do run here as they don't where it is really killed, have no effect.
    """

    def __init__(self, at=None, share=0.5):
        self.at, self.share, self.count = at, share, 0

    def step(self):
        self.count += 1
        if self.at is not None and self.count >= self.at:
            raise Killed

    def wrap(self, call):
        def wrapped(*args, **kwargs):
            self.step()
            return call(*args, **kwargs)

        return wrapped

    def write(self, handle, data):
        if self.at is not None and self.count + 1 == self.at:
            os.write(handle, bytes(data[: int(self.share * len(data))]))
        self.step()
        return os.write(handle, data)

    def install(self, patch):
        real_open = open
        for name in ("fsync", "replace", "truncate", "unlink"):
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        patch.setattr(os, "fdopen", lambda handle, mode, encoding=None: self.stack(handle, mode, encoding))

        def opened(path, mode="r", buffering=-1):
            if "a" not in mode:
                return real_open(path, mode)
            assert buffering == 0, "rows must reach the file in one piece, not as a buffer fills"
            self.step()
            return KillableFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), self)

        patch.setattr(streaming, "open", opened, raising=False)
        return self

    def stack(self, handle, mode, encoding):
        buffered = io.BufferedWriter(KillableFile(handle, self))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=encoding)


class KillableFile(io.RawIOBase):
    def __init__(self, handle, killer):
        self.handle, self.killer = handle, killer

    def writable(self):
        return True

    def fileno(self):
        return self.handle

    def write(self, data):
        return self.killer.write(self.handle, data)

    def close(self):
        if not self.closed:
            os.close(self.handle)
        super().close()


@pytest.mark.slow("hundreds of runs")
def test_three_hundred_kills_all_end_in_the_identical_file(tmp_path, monkeypatch):
    """Killed at a random file operation, and in a third of the cases again while it goes on; then left alone."""
    run, rng = Run(tmp_path, monkeypatch), random.Random(0)
    with monkeypatch.context() as patch:
        counter = Killer().install(patch)
        expected = run()
    assert counter.count > 20 and expected.count(b"\n") == 72 and left_over(tmp_path) == []
    kills = resumed = 0
    while kills < 300:
        for path in tmp_path.iterdir():
            path.unlink()
        while rng.random() < (1 if not any(tmp_path.iterdir()) else 1 / 3):
            run.computed.clear()
            with monkeypatch.context() as patch:
                Killer(rng.randint(1, counter.count), rng.random()).install(patch)
                try:
                    run()
                    break  # what was left to do took fewer operations
                except Killed:
                    kills += 1
        run.computed.clear()
        assert run() == expected and left_over(tmp_path) == []
        resumed += len(run.computed) < 4
    assert resumed > 90, "most of the work must have survived"


def test_a_batch_that_was_appended_outlives_a_power_cut(tmp_path, monkeypatch):
    """What the kernel has outlives a kill, but of a power cut what fsync has put on the disk, and that is the batch as a whole."""
    stream, fsync, on_disk = stream_of(Run(tmp_path, monkeypatch)), os.fsync, {}

    def put_on_disk(handle):
        fsync(handle)
        on_disk[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    monkeypatch.setattr(os, "fsync", put_on_disk)
    stream.start()
    for batch in (["0", "1"], ["2"]):
        stream.append([{"id": row_id} for row_id in batch])
        assert on_disk.get(stream.part.stat().st_ino) == stream.part.stat().st_size
    assert list(stream.finished()) == ["0", "1", "2"]


@pytest.mark.parametrize("damage", [b"\0" * 30 + b"\n", b'{"id": "1", "pr\n', b"\xff\xfe\n"], ids=["zeros", "torn", "no text"])
def test_what_follows_a_line_that_is_no_row_is_cut_off(tmp_path, monkeypatch, damage):
    """A power cut leaves a file's length and zeros, or parts of another, and a newline may be among them."""
    stream = stream_of(Run(tmp_path, monkeypatch))
    stream.start()
    stream.lock.release()
    first, last = b'{"id": "0"}\n', b'{"id": "2"}\n'
    stream.part.write_bytes(first + damage + last)
    again = stream_of(SimpleNamespace(out=stream.out))
    again.start()
    assert again.part.read_bytes() == first and list(again.finished()) == ["0"]
    again.lock.release()
    stream.part.write_bytes(first + last.rstrip())  # whole, but for its end, which the next row would be written behind
    again.start()
    assert again.part.read_bytes() == first


def test_finished_batches_are_not_computed_again(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    expected = run()
    stream = PredictionStream(run.out, {"adapter": "a", "code": {"decode.py": "1"}})
    stream.start()
    stream.lock.release()
    lines = expected.splitlines(keepends=True)
    stream.part.write_bytes(b"".join(lines[:18]) + b"".join(lines[36:54]) + lines[20][:40])  # batches 0 and 2, and a torn line
    run.computed.clear()
    assert run() == expected and run.computed == [[2, 3], [6, 7]]


def test_several_processes_merge_to_the_same_bytes(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch, images=7)
    expected = run()
    run.computed.clear()
    assert run(world=3) == expected and sorted(run.computed) == [[0, 1], [2, 3], [4, 5], [6]]


def test_parts_of_three_processes_are_continued_by_one(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    expected = run()
    lines = expected.splitlines(keepends=True)
    stream = PredictionStream(run.out, {"adapter": "a", "code": {"decode.py": "1"}})
    stream.start()
    stream.lock.release()
    for rank in range(3):
        stream.out.with_name(f".predictions.jsonl.part-{rank}").write_bytes(
            b"".join(lines[18 * rank : 18 * rank + 18])[: -5 if rank == 1 else None]
        )
    run.computed.clear()
    assert run() == expected and run.computed == [[2, 3], [6, 7]]


def test_another_adapter_config_data_or_code_refuses_to_mix_and_is_named(tmp_path, monkeypatch):
    run, facts = Run(tmp_path, monkeypatch), {"adapter": "a", "code": {"decode.py": "1", "scoring.py": "2"}, "config": {"predict.beams": 4}}
    PredictionStream(run.out, facts).start()
    changed = {"adapter": "b", "code": {"decode.py": "1", "scoring.py": "3"}, "config": {"predict.beams": 4, "image.max_pixels": 1}}
    with pytest.raises(UserError, match=r"made with other adapter, code scoring.py, config image.max_pixels; .* --overwrite"):
        run(changed)
    before = run(facts)
    PredictionStream(run.out, facts).start()
    assert run(changed, overwrite=True) == before and left_over(tmp_path) == []


def test_all_see_what_is_there_before_anyone_writes_and_end_together(tmp_path, monkeypatch):
    run, events = Run(tmp_path, monkeypatch, images=4), []
    append = PredictionStream.append
    monkeypatch.setattr(PredictionStream, "append", lambda self, rows: events.append(f"{len(rows)} rows") or append(self, rows))
    stream = stream_of(run)
    stream.start()
    run.share(stream, 0, SimpleNamespace(parties=1, wait=lambda: events.append("all wait")))
    assert events == ["all wait", "18 rows", "18 rows", "all wait"]


def test_a_terminal_sees_the_rows_of_the_first_process_go_by(tmp_path, monkeypatch, capsys):
    """And what an earlier run left is told where there is something."""
    run, barrier = Run(tmp_path, monkeypatch), SimpleNamespace(parties=2, wait=lambda: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    streams = [PredictionStream(run.out, {"adapter": "a"}, rank) for rank in range(2)]
    streams[0].start()
    run.share(streams[1], 1, barrier)
    assert capsys.readouterr() == ("", ""), "the second says nothing"
    run.share(streams[0], 0, barrier)
    said = capsys.readouterr()
    assert said.out == "continuing: 2 of 4 batches are there already\n"
    assert re.search(r"predicting: 100%\|█+\| 18/18 \[[0-9:]+<[0-9:]+, +[0-9.]+row/s\]", said.err.split("\r")[-1])
    run.share(streams[1], 1, barrier)
    assert capsys.readouterr() == ("", ""), "nor of what is there already"
    other = Run(tmp_path / "a" / "new folder", monkeypatch)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    other()
    assert capsys.readouterr() == ("", ""), "nothing is there, and nobody watches"


def stream_of(run, **facts):
    return PredictionStream(run.out, facts or {"adapter": "a", "code": {"decode.py": "1"}})


def finish(run, **facts):
    """A finished run of these facts, as predict_exp1 leaves it."""
    stream = stream_of(run, **facts)
    stream.start()
    stream.append([{"id": "0", "pred": "yes"}])
    stream.finish(["0"], lambda: streaming.write_json(stream.sidecar, {"made_from": stream.facts}))


def test_finished_predictions_are_neither_made_twice_nor_replaced_unasked(tmp_path, monkeypatch):
    run, facts = Run(tmp_path, monkeypatch), {"adapter": "a", "config": {"predict.decoding": "exact"}, "arguments": {"--limit": None}}
    assert not stream_of(run, **facts).is_finished(), "nothing is there"
    finish(run, **facts)
    before = run.out.read_bytes()
    assert stream_of(run, **facts).is_finished() and not stream_of(run, **facts).is_finished(overwrite=True)
    for change, name in (
        ({"adapter": "b"}, "adapter"),
        ({"config": {"predict.decoding": "free"}}, "config predict.decoding"),
        ({"arguments": {"--limit": 3}}, "arguments --limit"),
        ({"adapter": "b", "device": "cuda"}, "adapter, device"),
    ):
        message = rf"predictions.jsonl: is there, made with other {name}; give --out NAME.jsonl to keep it, or --overwrite to replace it$"
        with pytest.raises(UserError, match=message):
            stream_of(run, **{**facts, **change}).is_finished()
        assert not stream_of(run, **{**facts, **change}).is_finished(overwrite=True)
    assert run.out.read_bytes() == before and left_over(tmp_path) == []


def test_predictions_that_do_not_say_what_they_were_made_from_are_kept(tmp_path, monkeypatch):
    """Somebody else's, or of older code."""
    run = Run(tmp_path, monkeypatch)
    run.out.write_text('{"id": "0"}\n')
    for sidecar in (None, {"ids": ["0"]}):
        if sidecar:
            streaming.write_json(run.out.with_suffix(".meta.json"), sidecar)
        with pytest.raises(UserError, match="predictions.jsonl: is there and does not say what it was made from; give --out"):
            stream_of(run).is_finished()
        assert not stream_of(run).is_finished(overwrite=True)


def test_a_kill_between_the_file_and_its_sidecar_goes_on(tmp_path, monkeypatch):
    run, facts = Run(tmp_path, monkeypatch), {"adapter": "a"}
    finish(run, adapter="old")
    stream = stream_of(run, **facts)
    stream.start(overwrite=True)
    stream.append([{"id": "0", "pred": "no"}])

    def dies():
        raise Killed

    with pytest.raises(Killed):
        stream.finish(["0"], dies)
    stream.lock.release()
    assert run.out.exists() and not stream.sidecar.exists() and not stream_of(run, **facts).is_finished()
    again = stream_of(run, **facts)
    again.start()
    assert list(again.finished()) == ["0"]


def test_overwriting_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    """The same command again, with --overwrite and without: what is replaced was agreed to, and what is there is not made twice."""
    run, facts = Run(tmp_path, monkeypatch), {"adapter": "new"}
    finish(run, adapter="old")
    for overwrite in (True, True, False):
        stream = stream_of(run, **facts)
        assert not stream.is_finished(overwrite)
        stream.start(overwrite)
        kept = len(stream.finished())
        stream.append([{"id": str(kept), "pred": "no"}])
        stream.lock.release()
    assert kept == 2
    with pytest.raises(
        UserError, match="predictions.jsonl: an unfinished run is there that was made with other adapter; start it as it was"
    ):
        stream_of(run, adapter="third").start()


def test_of_many_differences_some_are_named(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    finish(run, code={f"{number}.py": "1" for number in range(9)})
    with pytest.raises(UserError, match=r"made with other code 0.py, code 1.py, code 2.py, code 3.py, 5 more; give"):
        stream_of(run, code={f"{number}.py": "2" for number in range(9)}).is_finished()


def test_what_differs_is_named_as_far_as_it_goes():
    assert streaming.listed(["a", "b", "c", "d"]) == "a, b, c, d" and streaming.listed(list("abcde")) == "a, b, c, d, 1 more"
    old, new = {"model files": {"a": "1", "b": "2"}, "device": "cpu", "seed": 1}, {"model files": "c0ffee", "device": "cpu", "code": {}}
    for one, other in ((old, new), (new, old)):
        assert sorted(streaming.differences(one, other)) == ["code", "model files", "seed"]
    nested = {"model files": {"a": "1", "c": "3"}}
    assert sorted(streaming.differences({"model files": old["model files"]}, nested)) == ["model files b", "model files c"]


def test_a_disk_that_refuses_is_one_line_and_another_than_a_full_one(tmp_path):
    for code, remedy in ((errno.EACCES, "mend that"), (errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space")):
        with pytest.raises(UserError) as error, streaming.disk_errors(tmp_path / "p.jsonl"):
            raise OSError(code, os.strerror(code))
        assert str(error.value) == f"{tmp_path / 'p.jsonl'}: {os.strerror(code)}; {remedy} and start again, finished batches are kept"


def test_what_a_kill_left_half_written_beside_the_files_is_removed(tmp_path, monkeypatch):
    stream, temporaries = stream_of(Run(tmp_path, monkeypatch)), []
    real = os.replace
    for path in (stream.out, stream.sidecar, stream.header):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "replace", Killer(1).wrap(real))
            patch.setattr(os, "unlink", Killer(1).wrap(os.unlink))
            streaming.write_json(path, {})
        temporaries.append(set(tmp_path.iterdir()))
    assert [len(names) for names in temporaries] == [1, 2, 3]
    stream.start()
    assert {path.name for path in tmp_path.iterdir()} == {".predictions.jsonl.part.json", ".predictions.jsonl.lock"}


def test_a_number_that_is_none_is_not_written(tmp_path, monkeypatch):
    stream = stream_of(Run(tmp_path, monkeypatch))
    stream.start()
    stream.append([{"id": "0", "confidence": None}])
    with pytest.raises(UserError, match=r"^row '7': the model's arithmetic overflows: candidates_top.1.1 is nan, which JSON can't hold"):
        stream.append([{"id": "6", "confidence": 0.5}, {"id": "7", "candidates_top": [["yes", 0.5], ["no", float("nan")]]}])
    assert stream.part.read_text() == '{"id": "0", "confidence": null}\n'


def test_an_interruption_says_what_is_kept_once(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    stream = stream_of(run)
    stream.start()
    stream.append([{"id": "0"}, {"id": "1"}])
    with open(stream.part, "ab") as file:
        file.write(b'{"id": "2", "pr')  # it was being written
    with pytest.raises(Interrupted, match="^2 of 1,200 rows are kept; go on with: python predict_exp1.py$"):
        with stream.interruption_explained(1200, "python predict_exp1.py"):
            raise KeyboardInterrupt
    other = PredictionStream(run.out, {"adapter": "a"}, rank=1)
    with pytest.raises(SystemExit) as end, other.interruption_explained(1200, ""):
        raise KeyboardInterrupt
    assert end.value.code == 130


def test_a_full_disk_is_one_line_and_loses_no_batch(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    expected = run()

    class Full(io.RawIOBase):
        def __init__(self, path):
            self.file, self.left = open(path, "ab", buffering=0), 9000

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.left])
            self.left -= written
            return written

        def fileno(self):
            return self.file.fileno()

    with monkeypatch.context() as patch:
        patch.setattr(streaming, "open", lambda path, mode, buffering=-1: Full(path) if "a" in mode else open(path, mode), raising=False)
        with pytest.raises(UserError, match="part-0: No space left on device; free some space and start again"):
            run()
    run.computed.clear()
    assert run() == expected and 0 < len(run.computed) < 4


def test_a_disk_that_fills_while_the_file_is_put_together_loses_nothing(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    expected = run()
    run.computed.clear()

    def full(path, mode="w"):
        raise OSError(28, "No space left on device")

    run.out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "atomic_open", full)
        with pytest.raises(UserError, match="predictions.jsonl: No space left on device; free some space and start again"):
            run()
    assert len(run.computed) == 4 and not run.out.exists()
    run.computed.clear()
    assert run() == expected and run.computed == []


def test_a_second_run_is_kept_away_from_the_same_file(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    first = PredictionStream(run.out, {"adapter": "a"})
    first.start()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="predictions.jsonl: another run is writing it"):
            PredictionStream(run.out, {"adapter": "a"}).start(overwrite)
    other = PredictionStream(tmp_path / "other.jsonl", {"adapter": "a"})
    other.start()
    other.finish([], lambda: None)
    first.lock.release()
    first.discard()
    run()
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_on_the_file_system_it_runs_and_says_so(tmp_path, monkeypatch, capsys, number):
    """And no mark stands for a lock: that of a run that was killed would keep the next one away."""
    run = Run(tmp_path, monkeypatch)
    expected = run()

    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    lock = re.escape(str(tmp_path / ".predictions.jsonl.lock"))
    note = rf"note: {lock} can't be locked \(.+\); don't start a second run on predictions.jsonl\n"
    killed = stream_of(run)
    killed.start()
    assert run() == expected and re.fullmatch(2 * note, capsys.readouterr().out)


def test_names_with_brackets_are_continued_too(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch)
    run.out = tmp_path / "seed[1]*.jsonl"
    expected = run()
    lines = expected.splitlines(keepends=True)
    stream = PredictionStream(run.out, {"adapter": "a", "code": {"decode.py": "1"}})
    stream.start()
    stream.lock.release()
    stream.part.write_bytes(b"".join(lines[:18]))
    run.computed.clear()
    assert run() == expected and run.computed == [[2, 3], [4, 5], [6, 7]] and left_over(tmp_path) == []
