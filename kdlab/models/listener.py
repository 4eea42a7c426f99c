"""What modules of a model give while it reads a batch, kept for a while by forward hooks and then let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Listener:
    """Hooks exist inside `listening()` only. A module that runs again (a probe before the batch, a layer computed anew
    under gradient checkpointing) replaces what it gave before.

    The hooks keep a tensor as it comes and compute nothing, so that what gradient checkpointing computes anew is what
    it computed first.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[nn.Module, Callable[[Any], Tensor | None]]] = {}
        self._kept: dict[str, Tensor] = {}
        self._listening = False

    def want(self, name: str, module: nn.Module, pick: Callable[[Any], Tensor | None]) -> None:
        """Keep `pick(output)` of the module under `name`."""
        self._wanted[name] = (module, pick)

    def heard(self, name: str) -> Tensor | None:
        """What is kept under `name`, None where its module did not run or gave no such thing."""
        assert self._listening, "only inside listening()"
        return self._kept.get(name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        assert not self._listening
        handles: list[RemovableHandle] = []
        try:
            self._listening = True
            for name, (module, pick) in self._wanted.items():
                handles.append(module.register_forward_hook(self._hook(name, pick)))
            yield
        finally:
            self._listening = False
            for handle in handles:
                handle.remove()
            self._kept.clear()

    def _hook(self, name: str, pick: Callable[[Any], Tensor | None]) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
            picked = pick(output)
            if picked is not None:
                self._kept[name] = picked

        return keep


def hidden_of(output: Any) -> Tensor | None:
    """The hidden states `[B, T, H]` in what a layer gave: a tensor, or a tuple that begins with it."""
    first = output[0] if isinstance(output, tuple) else output
    return first if isinstance(first, Tensor) and first.ndim == 3 else None


def map_of(output: Any) -> Tensor | None:
    """The attention maps `[B, A, T, T]` in what an attention module gave: the last of a tuple, where it gives any."""
    last = output[-1] if isinstance(output, tuple) and len(output) > 1 else None
    return last if isinstance(last, Tensor) and last.ndim == 4 else None
