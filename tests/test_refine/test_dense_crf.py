import copy
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from csrm_plugin.refine import DenseCRF, dense_crf
from csrm_plugin.utils import UserError


def make_batch(count=3, size=(12, 16)):
    """Pictures with a bright square on dark ground, and noisy labels of it at two thresholds."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (count, *size, 3), dtype=np.uint8)
    images[:, 3:9, 4:12] += 200
    truth = np.zeros(size, dtype=np.uint8)
    truth[3:9, 4:12] = 1
    labels = [np.stack([np.where(rng.random(size) < share, 1 - truth, truth) for share in (0.05, 0.1)])] * count
    return images, labels, [2] * count, truth


def gone(pid, seconds=120):
    """Wait until the process has ended; the limit, far above what it takes, is for a test that fails anyway."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == 'Z':  # ended; nobody has asked for its status
            return True
        time.sleep(0.02)
    return False


class TestWithout:
    """Without pydensecrf."""

    @pytest.fixture(autouse=True)
    def _absent(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'pydensecrf', None)
        monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)

    def test_message_names_the_mend(self):
        with pytest.raises(UserError, match=r'pip install pydensecrf2.*model\.pseudo_label\.crf=None'):
            DenseCRF()
        with pytest.raises(UserError, match='pip install pydensecrf2'):
            dense_crf(np.zeros((4, 4, 3), dtype=np.uint8), np.full((2, 4, 4), 0.5))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(backend='fast'), 'backend `fast`; known: pydensecrf'),
        (dict(label_confidence=1.0), r'`label_confidence`.*1\.0'),
        (dict(label_confidence=0), '`label_confidence`.*0'),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(UserError, match=message):
        DenseCRF(**options)


class TestWith:
    """With pydensecrf."""

    @pytest.fixture(autouse=True)
    def _present(self):
        pytest.importorskip('pydensecrf')

    def test_no_iterations_give_the_probabilities_back(self):
        probs = torch.rand(3, 6, 7).softmax(dim=0).numpy()
        result = dense_crf(np.zeros((6, 7, 3), dtype=np.uint8), probs, iterations=0)
        np.testing.assert_allclose(result, probs, rtol=1e-4)

    def test_smooths_towards_the_picture(self):
        images, labels, _, truth = make_batch(1)
        hard = labels[0][0]
        probs = np.stack([1 - hard, hard]) * 0.6 + 0.2
        result = dense_crf(images[0], probs, bilateral_srgb=20)
        assert result.shape == probs.shape and result.dtype == np.float32
        np.testing.assert_allclose(result.sum(axis=0), 1, rtol=1e-4)
        np.testing.assert_array_equal(result.argmax(axis=0), truth)

    def test_tensors_in_tensor_out(self):
        images, _, _, _ = make_batch(1)
        probs = torch.rand(2, 12, 16).softmax(dim=0)
        result = dense_crf(torch.from_numpy(images[0]), probs)
        assert isinstance(result, torch.Tensor) and result.dtype == torch.float32
        np.testing.assert_array_equal(result.numpy(), dense_crf(images[0], probs.numpy()))

    def test_probabilities_of_zero(self):
        probs = np.zeros((2, 4, 5))
        probs[0] = 1
        result = dense_crf(np.zeros((4, 5, 3), dtype=np.uint8), probs)
        assert np.isfinite(result).all() and (result[0] > 0.99).all()

    def test_wrong_inputs_are_named(self):
        probs = np.full((2, 4, 5), 0.5)
        with pytest.raises(ValueError, match=r'`image` must be \(H, W, 3\) uint8.*float64'):
            dense_crf(np.zeros((4, 5, 3)), probs)
        with pytest.raises(ValueError, match='5 x 4 pixels'):
            dense_crf(np.zeros((5, 4, 3), dtype=np.uint8), probs)
        for count in (1, 2):
            with pytest.raises(ValueError, match='5 x 4 pixels'):
                DenseCRF().refine_labels([np.zeros((5, 4, 3), dtype=np.uint8)], [np.zeros((1, 4, 5), int)], [count])
        with pytest.raises(ValueError, match=r'`probs` must be \(K, H, W\)'):
            dense_crf(np.zeros((4, 5, 3), dtype=np.uint8), probs[0])

    def test_refine_labels_equals_dense_crf_of_each_map(self):
        """One lattice for both maps, but no memory of the first in the second."""
        images, labels, counts, _ = make_batch(2)
        refined = DenseCRF(label_confidence=0.8).refine_labels(images, labels, counts)
        for image, pair, result in zip(images, labels, refined):
            assert result.dtype == np.uint8
            for hard, got in zip(pair, result):
                probs = np.where(np.stack([hard == 0, hard == 1]), 0.8, 0.2)
                np.testing.assert_array_equal(got, dense_crf(image, probs).argmax(axis=0))

    def test_rest_of_the_confidence_is_shared_by_the_other_labels(self, monkeypatch):
        seen = []

        def record(image, unaries, *_):
            seen.extend(unaries)
            return [-unary for unary in unaries]

        monkeypatch.setattr(sys.modules[DenseCRF.__module__], '_infer', record)
        labels = [np.array([[[0, 2]]])]
        refined = DenseCRF().refine_labels(np.zeros((1, 1, 2, 3), dtype=np.uint8), labels, [3])
        np.testing.assert_allclose(np.exp(-seen[0]), [[0.7, 0.15], [0.15, 0.15], [0.15, 0.7]], rtol=1e-6)
        assert refined[0].tolist() == [[[0, 2]]]

    def test_picture_without_classes_needs_no_refinement(self):
        images, labels, _, _ = make_batch(2)
        zeros = np.zeros_like(labels[0])
        refined = DenseCRF().refine_labels(images, [zeros, labels[1]], [1, 2])
        assert not refined[0].any() and refined[0].dtype == np.uint8 and refined[1].any()

    def test_pool_equals_no_pool(self):
        images, labels, counts, _ = make_batch(5)
        expected = DenseCRF().refine_labels(images, labels, counts)
        with DenseCRF(workers=2) as crf:
            for _ in range(2):
                result = crf.refine_labels(torch.from_numpy(images), labels, counts)
                assert all((a == b).all() for a, b in zip(expected, result)) and len(result) == 5
            assert len(crf._pool._processes) == 2
            workers = list(crf._pool._processes)
        assert all(gone(pid) for pid in workers)

    def test_close_and_start_again(self):
        images, labels, counts, _ = make_batch(1)
        crf = DenseCRF(workers=1)
        crf.close()  # nothing to close
        crf.refine_labels(images, labels, counts)
        (first,) = crf._pool._processes
        crf.close()
        assert gone(first)
        crf.refine_labels(images, labels, counts)
        crf.close()
        crf.close()

    def test_error_in_a_worker_comes_through_and_the_pool_lives_on(self):
        images, labels, counts, _ = make_batch(1)
        with DenseCRF(workers=1) as crf:
            with pytest.raises(ValueError, match='uint8'):
                crf.refine_labels(images.astype(float), labels, counts)
            assert len(crf.refine_labels(images, labels, counts)) == 1

    def test_garbage_collection_ends_the_pool(self):
        images, labels, counts, _ = make_batch(1)
        crf = DenseCRF(workers=1)
        crf.refine_labels(images, labels, counts)
        (worker,) = crf._pool._processes
        del crf
        gc.collect()
        assert gone(worker)

    @pytest.mark.parametrize('duplicate', [copy.deepcopy, copy.copy, lambda crf: pickle.loads(pickle.dumps(crf))])
    def test_copies_have_a_pool_of_their_own(self, duplicate):
        images, labels, counts, _ = make_batch(1)
        with DenseCRF(workers=1, iterations=3, label_confidence=0.6) as crf:
            expected = crf.refine_labels(images, labels, counts)
            (worker,) = crf._pool._processes
            with duplicate(crf) as other:
                assert (other.iterations, other.label_confidence, other.workers) == (3, 0.6, 1)
                np.testing.assert_array_equal(other.refine_labels(images, labels, counts), expected)
                assert worker not in other._pool._processes
            assert not gone(worker, seconds=0.1)


# A program whose forks each start a pool and end in another way; the package's own imports take too long to do it
# in a program each, so that only the parts at test are imported.
SCENARIOS = """
import json, os, signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
package = types.ModuleType('csrm_plugin')
package.__path__ = [sys.argv[1]]
sys.modules['csrm_plugin'] = package
import numpy as np
from csrm_plugin.refine import DenseCRF

def start_pool():
    crf = DenseCRF(workers=2)
    labels = [np.zeros((1, 6, 6), dtype=np.uint8)] * 3
    crf.refine_labels(np.zeros((3, 6, 6, 3), dtype=np.uint8), labels, [2] * 3)
    return crf

def leaves_interrupts_to_the_parent(pid):
    with open(f'/proc/{pid}/status') as file:
        ignored = next(line.split()[1] for line in file if line.startswith('SigIgn:'))
    return int(ignored, 16) >> (signal.SIGINT - 1) & 1

report = {}
for scenario in ('exit', 'exception', 'kill', 'interrupt', 'terminate'):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        sys.stderr = open(os.devnull, 'w')
        crf = start_pool()
        os.write(write, json.dumps(list(crf._pool._processes)).encode() + b'\\n')
        os.close(write)
        if scenario == 'exit':
            sys.exit(0)
        if scenario == 'exception':
            raise RuntimeError('training failed')
        while True:
            time.sleep(60)
    os.close(write)
    with os.fdopen(read) as pipe:
        workers = json.loads(pipe.readline())
    if scenario == 'kill':
        os.kill(child, signal.SIGKILL)
    elif scenario == 'interrupt':
        while not all(map(leaves_interrupts_to_the_parent, workers)):  # they have just been started
            time.sleep(0.01)
        os.killpg(child, signal.SIGINT)  # as a terminal does it: the workers get it too
    elif scenario == 'terminate':
        os.kill(child, signal.SIGTERM)
    report[scenario] = dict(workers=workers, status=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(report))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_pool_is_gone_however_the_program_ends(root, tmp_path):
    pytest.importorskip('pydensecrf')
    # Files in place of pipes, whose end would only come with that of the last worker.
    with open(tmp_path / 'out', 'w+') as out, open(tmp_path / 'err', 'w+') as err:
        command = [sys.executable, '-c', SCENARIOS, str(root / 'csrm_plugin')]
        status = subprocess.run(command, stdout=out, stderr=err, timeout=600).returncode
    assert status == 0, (tmp_path / 'err').read_text()
    report = json.loads((tmp_path / 'out').read_text())
    statuses = {name: scenario['status'] for name, scenario in report.items()}
    assert statuses == {
        'exit': 0,
        'exception': 1,
        'kill': -signal.SIGKILL,
        'interrupt': -signal.SIGINT,
        'terminate': -signal.SIGTERM,
    }
    assert [len(scenario['workers']) for scenario in report.values()] == [2] * 5
    left = [(name, pid) for name, scenario in report.items() for pid in scenario['workers'] if not gone(pid)]
    for _, pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
