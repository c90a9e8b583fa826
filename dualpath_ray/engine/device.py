"""What there is for engines to run on."""


def num_cuda_devices() -> int:
    """GPUs that torch finds here; 0 for a torch without CUDA."""
    import torch  # takes a second, and most configurations do not ask

    return int(torch.cuda.device_count())


def gpu_name() -> str:
    """Of the first GPU here."""
    import torch

    return str(torch.cuda.get_device_name())
