"""TF32 is one switch of a study: off unless asked for, and refused where there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sweeps
from objectives.lanes import precision
from sweeps.config.changes import describe_changes
from sweeps.config.errors import ConfigError

CUDNN: Any = torch.backends.cudnn
SWITCHES = (torch.backends.cuda.matmul, CUDNN.conv, CUDNN.rnn)


@pytest.fixture
def _process_settings() -> Iterator[None]:
    before = [switch.fp32_precision for switch in SWITCHES]
    yield
    for switch, value in zip(SWITCHES, before, strict=True):
        switch.fp32_precision = value


@pytest.mark.usefixtures("_process_settings")
def test_tf32_is_off_unless_asked_for_and_during_a_comparison() -> None:
    def now() -> set[str]:
        return {switch.fp32_precision for switch in SWITCHES}

    precision.use("tf32")
    precision.use("float32")
    assert now() == {"ieee"}
    precision.use("tf32")
    with precision.exact():
        assert now() == {"ieee"}
    assert now() == {"tf32"}


@pytest.mark.gpu
@pytest.mark.usefixtures("_process_settings")
def test_tf32_rounds_products_on_a_gpu() -> None:
    left, right = (torch.randn(257, 263, device="cuda") for _ in range(2))
    precision.use("float32")
    fine = left @ right.mT
    precision.use("tf32")
    coarse = left @ right.mT
    assert not torch.equal(fine, coarse)
    torch.testing.assert_close(fine, coarse, rtol=0.01, atol=0.1)


def test_run_refuses_tf32_without_a_gpu_before_it_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    config = sweeps.load_config("tabular-mlp", ["device=cpu"], precision="tf32", storage=url)
    with pytest.raises(ConfigError, match=r"^precision: tf32 needs a CUDA device; take float32"):
        sweeps.run(config)
    assert not (tmp_path / "none.db").exists()


def test_misspelt_precision_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tf32'"):
        sweeps.load_config("tabular-mlp", precision="tf23")


def test_precision_is_a_setting_of_the_study() -> None:
    fine = sweeps.load_config("tabular-mlp").stored()
    coarse = sweeps.load_config("tabular-mlp", precision="tf32").stored()
    assert describe_changes(fine, coarse) == ["precision: float32 -> tf32"]
