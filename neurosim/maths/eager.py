"""Torch's optimizers without torch's compiler."""

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch
from torch.optim import Optimizer

_WITHOUT = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def eager(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """Returns a class of optimizers, of the same name, that do what these do and leave the compiler
    alone.

    Torch wraps their methods in others that import ``torch._dynamo`` when they are called: 800
    modules, and one to two seconds of every process, to keep a compiler out that is not there. What
    they wrap is called as it is, with autograd on or off as their ``step`` would have it.
    Optimizers are pickled and copied as torch's are.
    """
    bare = inspect.unwrap(kind.step)

    @wraps(bare)
    def step(self: Optimizer, *arguments: Any, **options: Any) -> Any:
        with torch.set_grad_enabled(bool(self.defaults.get("differentiable"))):
            return bare(self, *arguments, **options)

    def reduced(self: Any) -> Any:  # the class has no name by which it would be found again
        return _blank, (kind,), self.__getstate__()

    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WITHOUT}
    about = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__reduce__": reduced}
    return type(kind.__name__, (kind,), {**methods, **about, "step": step})


def _blank(kind: Any) -> Any:
    cls: Any = eager(kind)
    return cls.__new__(cls)
