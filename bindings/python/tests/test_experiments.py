"""slth.run, slth.sweep and slth.required_candidates, compared with the results of the command."""

import json
import math
import os
import subprocess
import threading

import numpy as np
import pytest
import slth

SMALL = dict(network="784-20-10", train_images=600, validation=100, prune_epochs=2, seed=3)

# The path of the command, set by scripts/test-python.
COMMAND = os.environ.get("SLTH_COMMAND")


def command(*arguments):
    if COMMAND is None:
        pytest.skip("SLTH_COMMAND names no command to compare with")
    subprocess.run([COMMAND, *arguments], check=True, capture_output=True)


def flags(settings):
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


@pytest.fixture(scope="module")
def small():
    return slth.run(**SMALL)


def test_a_run(small):
    assert [layer.shape for layer in small.layers] == [(20, 784), (10, 20)]
    for layer in small.layers:
        n = layer.mask.size
        assert layer.weights.dtype == layer.scores.dtype == np.float32 and layer.mask.dtype == bool
        assert n - layer.kept == int(0.5 * n)
        assert (layer.mask == slth.top_k(layer.scores, sparsity=0.5)).all()
    assert 0.2 < small.test_accuracy <= 1 and 0.2 < small.dense_accuracy <= 1
    assert small.result["configuration"]["network"] == "784-20-10" and small.validation_accuracy is not None
    assert small.result["weights_hash"] == small.weights_hash


def test_threads_and_backends_change_no_bit(small):
    for backend in slth.info()["backends"]:
        other = slth.run(**SMALL, backend=backend, threads=1)
        assert (other.weights_hash, other.mask_hash) == (small.weights_hash, small.mask_hash)
        assert other.result["backend"] == backend
        for a, b in zip(other.layers, small.layers):
            assert (a.scores == b.scores).all() and (a.weights == b.weights).all() and (a.mask == b.mask).all()


def test_same_bits_as_the_command(small, tmp_path):
    command("run", *flags(SMALL), "--out", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["weights_hash"], result["mask_hash"]) == (small.weights_hash, small.mask_hash)
    assert result["configuration"] == small.result["configuration"]
    assert result["prune"]["test_accuracy"] == small.test_accuracy


@pytest.mark.parametrize(
    "settings",
    [
        dict(network="lenet5", train_images=500, epsilon=0.05, prune_epochs=1, normalize="0.1307,0.3081"),
        dict(network="784-10", train_images=500, epsilon="inf", method="magnitude-then-finetune", scope="global"),
        dict(network="784-10", train_images=500, init_scale=2.3, pretrain_schedule="cosine", momentum=0.2, batch=77),
    ],
)
def test_settings_mean_what_the_flags_mean(settings, tmp_path):
    found = slth.run(**{**settings, "epsilon": float(settings.get("epsilon", 0.02))})
    command("run", *flags(settings), "--out", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["weights_hash"], result["mask_hash"]) == (found.weights_hash, found.mask_hash)


def test_files_of_a_run(tmp_path, small):
    out = tmp_path / "out"
    slth.run(**SMALL, out=out)
    files = {"result.json", "ticket.safetensors", "history.csv", "history.svg"}
    assert {path.name for path in out.iterdir()} == files
    assert json.loads((out / "result.json").read_text())["mask_hash"] == small.mask_hash
    with pytest.raises((ValueError, OSError)):
        slth.run(**SMALL, out=out)
    slth.run(**SMALL, out=str(out), force=True)
    again = slth.run(config=out / "result.json")
    assert again.result["configuration"] == small.result["configuration"] and again.mask_hash == small.mask_hash
    assert slth.run(config=out / "result.json", seed=4).result["seed"] == 4


def test_a_compact_ticket(tmp_path, small):
    for ticket in ("full", "compact"):
        assert slth.run(**SMALL, out=tmp_path / ticket, ticket=ticket).mask_hash == small.mask_hash
    full, compact = ((tmp_path / ticket / "ticket.safetensors").stat().st_size for ticket in ("full", "compact"))
    assert compact < full / 4  # no scores, half of the weights, masks as bits
    with pytest.raises(ValueError, match="ticket: unknown variant `small`"):
        slth.run(**SMALL, ticket="small")


def test_a_pattern_says_its_sparsity():
    run = slth.run(**SMALL, pattern="1:4")
    assert run.result["sparsity"] == 0.75 and all(layer.kept == layer.mask.size // 4 for layer in run.layers)


def test_a_run_goes_on_from_its_checkpoint(tmp_path, small):
    class Enough(Exception):
        pass

    def progress(state):
        if state.task == "pruning" and (state.epoch or 0) >= 2:
            raise Enough

    settings = {**SMALL, "prune_schedule": "warmup:1+multistep:300", "prune_epochs": 400}
    with pytest.raises(Enough):
        slth.run(**settings, out=tmp_path, checkpoint=True, progress=progress)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.slth"}
    with pytest.raises(ValueError, match="another run: seed is 3 there, 4 here"):
        slth.run(**{**settings, "seed": 4}, out=tmp_path, resume=True)
    resumed = slth.run(**settings, out=tmp_path, resume=True)
    assert resumed.mask_hash == slth.run(**settings).mask_hash and not (tmp_path / "checkpoint.slth").exists()
    with pytest.raises(ValueError, match="give out"):
        slth.run(**SMALL, checkpoint=True)


def test_numbers_of_numpy(small):
    settings = {**SMALL, "seed": np.int64(3), "epsilon": np.float64(0.02)}
    assert slth.run(**settings).mask_hash == small.mask_hash


@pytest.mark.parametrize(
    "settings, error, text",
    [
        (dict(sparcity=0.5), TypeError, "no setting is called sparcity; there are .*sparsity"),
        (dict(epsilon="x"), ValueError, "epsilon: "),
        (dict(epsilon=-1), ValueError, "epsilon: must lie in"),
        (dict(sparsity=1.0), ValueError, "sparsity: must lie in"),
        (dict(network="784-10-"), ValueError, "network: "),
        (dict(network="12-3"), ValueError, "network: "),
        (dict(batch=1.5), ValueError, "batch: "),
        (dict(seed=-1), ValueError, "seed: "),
        (dict(method="nothing"), ValueError, "method: "),
        (dict(backend="none"), ValueError, "unknown backend"),
        (dict(threads=0), ValueError, "threads: "),
        (dict(data="/nowhere"), (ValueError, OSError), "/nowhere"),
        (dict(progress=3), TypeError, "progress must be callable"),
        (dict(pretrain_lr=1e30, epsilon=math.inf), RuntimeError, "diverged"),
    ],
)
def test_run_refuses(settings, error, text):
    with pytest.raises(error, match=text):
        slth.run(**{**SMALL, **settings})


def test_progress(small):
    told, threads = [], set()

    def progress(state):
        told.append(state)
        threads.add(threading.current_thread())

    assert slth.run(**SMALL, progress=progress).mask_hash == small.mask_hash
    last = told[-1]
    assert threads == {threading.current_thread()}
    assert (last.task, last.epoch, last.epochs) == ("pruning", 2, 2) and last.done == last.total == 1200
    assert 0 < last.accuracy <= 1 and last.loss > 0


def test_an_exception_in_the_callback_stops_the_run():
    class Enough(Exception):
        pass

    def progress(state):
        raise Enough

    with pytest.raises(Enough):
        slth.run(pretrain_epochs=10_000, progress=progress)


def test_a_sweep(tmp_path):
    grid = dict(epsilon=[0, 0.1], sparsity=[0.25, 0.5, 0.75], seeds=[1, 2])
    settings = dict(network="784-10", train_images=300, validation=100, prune_epochs=1)
    told = []
    found = slth.sweep(tmp_path / "a", **grid, **settings, progress=told.append)
    assert (found.known, found.computed) == (0, 12) and len(found.cells) == 12
    assert found.test_accuracy.shape == found.validation_loss.shape == (2, 3, 2)
    for cell in found.cells:
        at = (
            grid["epsilon"].index(pytest.approx(cell.epsilon)),
            grid["sparsity"].index(cell.sparsity),
            grid["seeds"].index(cell.seed),
        )
        assert found.test_accuracy[at] == cell.test_accuracy and cell.error is None
    assert told[-1].cell == told[-1].cells == 12 and {state.cell for state in told} >= set(range(1, 13))
    cell = next(cell for cell in found.cells if (cell.sparsity, cell.seed) == (0.5, 2) and cell.epsilon > 0)
    run = slth.run(**settings, epsilon=0.1, sparsity=0.5, seed=2)
    assert (cell.mask_hash, cell.weights_hash) == (run.mask_hash, run.weights_hash)

    again = slth.sweep(tmp_path / "a", **grid, **settings)
    assert (again.known, again.computed) == (12, 0)
    assert (again.test_accuracy == found.test_accuracy).all()
    part = slth.sweep(tmp_path / "b", **grid, **settings, shard="1/2")
    assert part.computed == 6 and np.isnan(part.test_accuracy).sum() == 6
    with pytest.raises(ValueError, match="shard"):
        slth.sweep(tmp_path / "b", **grid, **settings, shard="3/2")
    with pytest.raises(ValueError, match="ascend"):
        slth.sweep(tmp_path / "b", epsilon=[0.1, 0], **settings)


def test_the_command_continues_a_sweep(tmp_path):
    settings = dict(network="784-10", train_images=300, validation=100, prune_epochs=1)
    slth.sweep(tmp_path, epsilon=[0.1, math.inf], sparsity=[0.5], **settings)
    command("sweep", "--epsilon=0.1,inf", "--sparsity=0.5,0.75", *flags(settings), "--out", tmp_path)
    found = slth.sweep(tmp_path, epsilon=[0.1, math.inf], sparsity=[0.5, 0.75], **settings)
    assert (found.known, found.computed) == (4, 0)


def test_required_candidates(tmp_path):
    found = slth.required_candidates(eta=[0.1, 0.01], ratio=[0, 1, 10], trials=30)
    assert found.counts.shape == (2, 3, 30) and (np.diff(found.counts) >= 0).all()
    n90 = found.quantile(0.9)
    assert (n90[0] < n90[1]).all() and n90[1, 2] < n90[1, 0]
    assert [row["n90"] for row in found.result["results"]] == n90.ravel().tolist()
    with pytest.raises(ValueError, match="eta"):
        slth.required_candidates(eta=[0])
    third = slth.required_candidates(eta=[0.1], ratio=[0], trials=30, size=0.3)
    assert third.quantile(0.9) > n90[0, 0]
    with pytest.raises(ValueError, match="size"):
        slth.required_candidates(size=31)
    command("candidates", "--eta=0.1,0.01", "--ratio=0,1,10", "--trials=30", "--out", tmp_path)
    result = json.loads((tmp_path / "candidates.json").read_text())
    assert result["results"] == found.result["results"]
