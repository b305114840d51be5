"""FedAvg rounds in the style of two published code bases, for comparison with ours by `overhead.py`.

Both train the same tensors on the same rows as the federation, and end with a size-weighted mean.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin
from trl import SFTConfig, SFTTrainer

from fedvlm_hf.client.adapters import complete_config


def adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return the adapter with PEFT's function, without its request to the Hub."""
    return get_peft_model_state_dict(model, save_embedding_layers=False)


class NewTrainerPerClient:
    """One model, with a new trainer for every client run, and deep copies of the adapter's state.

    This is the style of OpenFedLLM and its descendants, which keep a copy for each client during the whole round.
    """

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, args: SFTConfig, clients: Mapping[str, Dataset]
    ):
        self.model = get_peft_model(model, complete_config(None, model))
        self.processor, self.args, self.clients = processor, args, clients

    def round(self) -> None:
        """Run every client once and compute the mean."""
        current = copy.deepcopy(adapter_state(self.model))
        states = {name: copy.deepcopy(current) for name in self.clients}
        for name, rows in self.clients.items():
            set_peft_model_state_dict(self.model, current)
            SFTTrainer(self.model, self.args, train_dataset=rows, processing_class=self.processor).train()
            states[name] = copy.deepcopy(adapter_state(self.model))
        total = sum(map(len, self.clients.values()))
        for key in current:
            current[key] = sum(states[name][key] * len(rows) / total for name, rows in self.clients.items())
        set_peft_model_state_dict(self.model, current)


class ModelReloadedPerClient:
    """For every client run, the model is loaded from disk, wrapped and passed to a new trainer; updates are NumPy
    arrays.

    This is the style of FlowerTune's example. With 1.3 M parameters, loading takes milliseconds, but it grows with the
    model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: SFTConfig,
        clients: Mapping[str, Dataset],
        folder: Path,
    ):
        model.save_pretrained(folder)
        self.folder, self.processor, self.args, self.clients = folder, processor, args, clients
        self.current = self._arrays(self._load())

    def round(self) -> None:
        """Run every client once and compute the mean."""
        total = sum(map(len, self.clients.values()))
        mean = [np.zeros_like(array) for array in self.current]
        for rows in self.clients.values():
            model = self._load()
            names = adapter_state(model)
            state = {name: torch.from_numpy(array) for name, array in zip(names, self.current, strict=True)}
            set_peft_model_state_dict(model, state)
            SFTTrainer(model, self.args, train_dataset=rows, processing_class=self.processor).train()
            for sum_, array in zip(mean, self._arrays(model), strict=True):
                sum_ += array * (len(rows) / total)
        self.current = mean

    def _load(self) -> PeftModel:
        model = AutoModelForImageTextToText.from_pretrained(self.folder)
        return get_peft_model(model, complete_config(None, model))

    @staticmethod
    def _arrays(model: PeftModel) -> list[np.ndarray]:
        return [tensor.detach().cpu().numpy().copy() for tensor in adapter_state(model).values()]
