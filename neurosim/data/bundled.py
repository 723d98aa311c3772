"""The small tables of scikit-learn (extra ``sklearn``), by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch

from neurosim.base import DataError
from neurosim.data.own import Found, OwnData, TestPart, says
from neurosim.families import register

_INSTALL = "pip install 'neurosim[sklearn]'"


@dataclass(frozen=True)
class _Bundled(OwnData):
    """Columns of numbers that come with scikit-learn: samples (N, columns), and what to learn."""

    paths = ()
    origin = (
        "it comes with scikit-learn, there is nothing to download; use it with data: {name: iris} "
        f"(or wine, …), and where it is missing {_INSTALL}"
    )

    test: TestPart = 0.2

    def _found(self, folder: Path, test: bool) -> Found | None:
        if test:
            return None
        try:
            from sklearn import datasets
        except ImportError:
            said = f"comes with scikit-learn, which is not installed: {_INSTALL}"
            raise DataError(f"{self.kind}: {said}") from None
        x, y = getattr(datasets, f"load_{self.kind}")(return_X_y=True)
        return torch.from_numpy(x.astype(np.float32)), y


@register("iris")
@dataclass(frozen=True)
class Iris(_Bundled):
    """Takes Fisher's irises: 150 of 4 measures, 3 classes."""


@register("wine")
@dataclass(frozen=True)
class Wine(_Bundled):
    """Takes the wines of UCI: 178 of 13 measures, 3 classes."""


@register("breast_cancer")
@dataclass(frozen=True)
class BreastCancer(_Bundled):
    """Takes the breast cancers of Wisconsin: 569 of 30 measures, 2 classes."""


_Values = Annotated[Literal["classes", "values"], says("values: the numbers are targets")]


@register("diabetes")
@dataclass(frozen=True)
class Diabetes(_Bundled):
    """Takes the diabetes patients of Efron et al. (2004): 442 of 10 measures, a value to learn."""

    labels: _Values = field(default="values", kw_only=True)


@register("linnerud")
@dataclass(frozen=True)
class Linnerud(_Bundled):
    """Takes the exercises of Linnerud: 20 of 3 measures, three values to learn."""

    labels: _Values = field(default="values", kw_only=True)
