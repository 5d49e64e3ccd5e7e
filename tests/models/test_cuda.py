"""The detectors on a real GPU: a whole step in which the host never waits. Skipped where there is none."""

import pytest
import torch
from demo import DETECTORS, inputs, make_detector, shapes_batch

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.fixture
def no_waiting():
    """Raise wherever the host would wait for the GPU, once the test says so."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", DETECTORS)
def test_a_step_and_an_inference_never_wait(name, no_waiting):
    model, batch = make_detector(name).cuda(), shapes_batch().to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for mode in ("default", "error"):  # the first round warms up: libraries wait when they are loaded
        torch.cuda.set_sync_debug_mode(mode)
        optimizer.zero_grad()
        model.losses(batch).total().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            model(*inputs(model, batch))


@pytest.mark.parametrize("name", DETECTORS)
def test_the_losses_are_the_cpus(name):
    model, batch = make_detector(name), shapes_batch()
    ours = model.losses(batch).total().detach()
    theirs = model.cuda().losses(batch.to("cuda")).total().detach().cpu()
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
