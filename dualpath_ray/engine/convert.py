"""From a quantised GGUF file to plain float32 weights that any transformers model loads in half a second."""

import contextlib
import io
from pathlib import Path


def convert_gguf(gguf_path: Path, out: Path) -> None:
    """Write weights (safetensors, float32), configuration and tokenizer of a GGUF file to the folder ``out``.

    Nothing is fetched. Dequantising is done once here: it takes many times as long as loading the result.
    Raises: what transformers raises when the file is no GGUF file or of an unknown architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(gguf_path.parent), gguf_path.name
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars; what goes wrong is raised
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        model.hf_quantizer = None  # the weights are plain by now, and a model that keeps the mark refuses to be saved
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone, and a virtual environment may be shared
