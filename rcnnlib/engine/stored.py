"""Feature maps computed once, and the training of heads on them: what makes ablations quick.

A frozen trunk gives the same map for the same picture, so it need not run twice. Each picture is stored as it is and
mirrored; a step takes one of the two. Left out: pictures of different sizes, and any trunk that learns.

Shapes: B pictures of a step, C, h, w channels and cells; N pictures of the data set
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from rcnnlib.datasets.transforms import Example, collate, flip, uniform_noise
from rcnnlib.engine.evaluation import Pictures
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.training import make_optimizer
from rcnnlib.models.backbone import Trunk
from rcnnlib.types import Batch


class StoredFeatures:
    """The maps of the pictures of ``dataset`` under ``trunk``, in half precision, and their boxes.

    Raises:
        ValueError: the pictures are not all of one size.
    """

    @torch.no_grad()
    def __init__(self, trunk: Trunk, dataset: Pictures, *, progress: bool = False) -> None:
        self.maps: list[tuple[Tensor, Tensor]] = []
        self.examples: list[tuple[Example, Example]] = []
        for place in tqdm(range(len(dataset)), desc="features", disable=not progress):
            both = (dataset[place], flip(dataset[place]))
            sizes = torch.tensor([both[0].image.shape[-2:]] * 2, dtype=torch.float32)
            maps = trunk(torch.stack([example.image for example in both]), sizes).half()
            blank = torch.zeros(1, 1, 1).expand_as(both[0].image)  # the picture is not needed again: no memory
            self.maps.append((maps[0], maps[1]))
            self.examples.append(tuple(example._replace(image=blank) for example in both))
        if len({maps[0].shape for maps in self.maps}) > 1:
            raise ValueError("pictures must be of one size to share a batch of stored maps: resize or tile them")

    def __len__(self) -> int:
        return len(self.maps)

    def batch(self, places: Sequence[int], *, seed: int, epoch: int) -> tuple[Float[Tensor, "B C h w"], Batch]:
        """Return maps and boxes of pictures, mirrored or not as (seed, epoch) says, and blank pictures."""
        mirrored = [uniform_noise(1, seed=seed, epoch=epoch, id=2**32 + place).item() < 0.5 for place in places]
        maps = torch.stack([self.maps[place][side] for place, side in zip(places, mirrored, strict=True)])
        examples = [self.examples[place][side] for place, side in zip(places, mirrored, strict=True)]
        return maps.float(), collate(examples, seed=seed, epoch=epoch)


def fit(
    parts: nn.Module,
    loss: Callable[[Tensor, Batch], Tensor],
    stored: StoredFeatures,
    schedule: Schedule,
    *,
    seed: int,
    progress: bool = False,
    watch: Callable[[int], None] = lambda steps: None,
) -> list[float]:
    """Train ``parts`` to make ``loss(maps, batch)`` small; return the loss of every step.

    The pictures of a step follow from (seed, step), as in `engine.training`. ``watch`` is called with the number of
    steps taken, before the first one too.
    """
    optimizer, losses = make_optimizer(parts, schedule), []
    parameters = [parameter for parameter in parts.parameters() if parameter.requires_grad]
    watch(0)
    for step in tqdm(range(schedule.steps), desc="fit", disable=not progress):
        epoch, place = divmod(step, len(stored) // schedule.batch)
        order = np.random.default_rng((seed, epoch)).permutation(len(stored))
        chosen = order[place * schedule.batch : (place + 1) * schedule.batch].tolist()
        value = loss(*stored.batch(chosen, seed=seed, epoch=epoch))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        optimizer.step()
        losses.append(value.item())
        watch(step + 1)
    return losses
