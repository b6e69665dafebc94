"""A model that cannot be trained is refused before anything is written; what can be trains."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from objectives.api import Data, Split, find_fusion_key
from objectives.lanes.preflight import check_model
from objectives.lanes.trainer import ModelTrainer
from objectives.references import ObjectiveError
from search_spaces.hparams import Hparams
from tests.ordinary import Calls

pytestmark = pytest.mark.usefixtures("one_thread")

F, C = 7, 3


@dataclass
class Own:
    """Three classes of 65 rows: 16 is a batch size that leaves one of them."""

    make: Callable[[], Any]
    name: str = "own"

    def load(self, source: Path | None) -> Data:
        rng = np.random.default_rng(0)
        y = np.arange(65) % C
        x = rng.normal(size=(65, F)).astype(np.float32) + y[:, None]
        split = Split((x.astype(np.float32),), y)
        return Data(split, split, split, ("a", "b", "c"))

    def build_model(self, data: Data, **model: Any) -> Any:
        return self.make()


def check(make: Callable[[], Any], **options: Any) -> None:
    check_model(Own(make), Own(make).load(None), {}, "cpu", **options)


def losses(make: Callable[[], nn.Module], num_epochs: int = 4, **hparams: Any) -> list[float]:
    trial = Hparams(batch_size=16, learning_rate=0.01, **hparams)
    lane = ModelTrainer(Own(make), Own(make).load(None)).open_lane(find_fusion_key(trial), 0)
    lane.place(0, 5, trial)
    return [lane.train_epoch()[0].train_loss for _ in range(num_epochs)]


def linear() -> nn.Module:
    return nn.Linear(F, C)


def norm() -> nn.Module:
    return nn.Sequential(nn.Linear(F, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(C))


@pytest.mark.parametrize("make", [norm, lazy])
def test_single_example_that_is_left_and_lazy_layers_train(make: Callable[[], nn.Module]) -> None:
    check(make)
    found = losses(make)
    assert all(map(math.isfinite, found))
    assert found[-1] < found[0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Calls(lambda m, x: "logits", layer=linear()), "got str; in a tuple"),
        (lambda: Calls(lambda m, x: {"scores": m.layer(x)}, layer=linear()), "got dict"),
        (lambda: Calls(lambda m, x: (), layer=linear()), "got tuple"),
        (lambda: Calls(lambda m, x: m.layer(x)[:, :2], layer=linear()), r"shape \(5, 2\)"),
        (lambda: "model", "must return an nn.Module, got str"),
        (nn.Flatten, "no parameter to train"),
    ],
)
def test_model_that_cannot_be_trained_is_refused(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ObjectiveError, match=match):
        check(make)


def test_dropout_of_the_space_needs_one_in_the_model() -> None:
    with pytest.raises(ObjectiveError, match=r"space\.dropout is set, but the model has no"):
        check(linear, needs_dropout=True)
    check(lambda: nn.Sequential(linear(), nn.AlphaDropout(0.0)), needs_dropout=True)


class Recurrent(nn.Module):
    """Two layers of an LSTM, which a CPU runs trial by trial."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 5, num_layers=2, dropout=rate, batch_first=True)
        self.head = nn.Linear(5, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.rnn(x.unsqueeze(-1))[0][:, -1])
        return logits


def test_swept_dropout_reaches_a_layer_of_pytorch_s_own() -> None:
    plain = losses(lambda: Recurrent(0.0))
    assert losses(lambda: Recurrent(0.5), dropout=0.0) == plain
    assert losses(lambda: Recurrent(0.5)) != plain
    assert losses(lambda: Recurrent(0.1), dropout=0.5) == losses(lambda: Recurrent(0.5))


def selu(rate: float) -> nn.Module:
    return nn.Sequential(nn.Linear(F, 8), nn.SELU(), nn.AlphaDropout(rate), nn.Linear(8, C))


def test_swept_dropout_reaches_a_dropout_that_is_not_batched() -> None:
    assert losses(lambda: selu(0.5), dropout=0.0) == losses(lambda: selu(0.0))
    assert losses(lambda: selu(0.1), dropout=0.4) == losses(lambda: selu(0.4))


def flip(inputs: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    (x,) = inputs
    flips = torch.rand(len(x), 1, generator=generator, device=x.device) < 0.5
    return (torch.where(flips, x.flip(1), x),)


class Flipped(Own):
    """Rows of numbers that are mirrored half of the time."""

    augment = staticmethod(flip)


def augmented(objective: Own, slots: dict[int, int], num_epochs: int = 2) -> list[list[Any]]:
    trial = Hparams(batch_size=16, learning_rate=0.01)
    lane = ModelTrainer(objective, objective.load(None)).open_lane(find_fusion_key(trial), 0)
    for slot, seed in slots.items():
        lane.place(slot, seed, trial)
    epochs = [{r.slot: r for r in lane.train_epoch()} for _ in range(num_epochs)]
    return [[(e[slot].train_loss, e[slot].val_loss) for e in epochs] for slot in slots]


@pytest.mark.parametrize("make", [linear, norm])
def test_batches_are_augmented_alike_for_all_trials_and_runs(
    make: Callable[[], nn.Module],
) -> None:
    together = augmented(Flipped(make), {0: 5, 1: 7})
    torch.manual_seed(3)  # torch's own generator has no say
    (alone,), (unchanged,) = (augmented(kind(make), {1: 7}) for kind in (Flipped, Own))
    assert np.array(alone) == pytest.approx(np.array(together[1]), rel=1e-3)
    assert np.array(unchanged) != pytest.approx(np.array(together[1]), rel=1e-3)


def test_pictures_are_mirrored_and_moved_as_the_readme_says() -> None:
    text = (Path(__file__).parent.parent / "objectives" / "README.md").read_text()
    (code,) = [each for each in text.split("```python\n") if each.startswith("def augment(")]
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(code.split("```")[0], names)
    x = torch.rand(31, 3, 7, 7) + 1  # 0 is what comes in at the edges
    (changed,) = names["augment"]((x,), torch.Generator().manual_seed(1))
    assert changed.shape == x.shape
    kept = (changed != 0).flatten(1).float().mean(dim=1)
    assert bool((kept == kept[0]).all())
    assert 25 / 49 <= float(kept[0]) <= 1
    assert not torch.equal(changed, x)


def test_augmentation_is_tried_before_the_run() -> None:
    check_model(Flipped(linear), Own(linear).load(None), {}, "cpu")
    wrong = Flipped(linear)
    wrong.augment = lambda inputs, generator: inputs[0]  # type: ignore[method-assign]
    with pytest.raises(ObjectiveError, match="augment must return a tuple as it gets: 1 tensors"):
        check_model(wrong, wrong.load(None), {}, "cpu")
    wrong.augment = lambda inputs: inputs  # type: ignore[method-assign]
    with pytest.raises(ObjectiveError, match="augment raised TypeError"):
        check_model(wrong, wrong.load(None), {}, "cpu")
