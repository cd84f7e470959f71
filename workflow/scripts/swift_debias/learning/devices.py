"""Which device a job computes on, and how the process is set up for it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ..config.schema import Compute
from ..errors import UserError, setting
from . import layouts
from .networks import Classifier

GIVEN = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS")  # a job that has a GPU
NO_CARD = ("", "-1", "NoDevFiles")  # how a scheduler says that it has none


def prepare_device(compute: Compute) -> torch.device:
    """Choose the device and set the process up for it: card, threads, precision, determinism."""
    if compute.device != "cpu":
        take_card()
    name = choose(compute.device)
    torch.set_num_threads(compute.threads)
    # TF32 for what is not under autocast: the importances and scores, which are fp32 otherwise,
    # must not lose bits, so it stays off; bf16 autocast carries the training on a GPU.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # cudnn.benchmark stays off: with it ResNet-50 (256 pixels, batch 128, bf16) was no faster on an
    # H100, 2,895 against 2,907 images/s, and choosing kernels took 10 s.
    if name == "cpu":
        _keep_memory()
        if compute.deterministic:
            torch.use_deterministic_algorithms(True)
            # Without it torch fills all new memory with NaN, to show who reads before writing: 2 to
            # 9 % of a training step (ResNet-50 at 64 pixels, EfficientNet-B3 at 224).
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device(name)


def choose(name: str) -> str:
    """'cuda' or 'cpu' for a device of the settings.

    Raises:
        UserError: a GPU was asked for or given to this job, and torch sees none. To train on the
            CPU then would take days without a word.
    """
    if name == "cpu" or torch.cuda.is_available():
        return "cpu" if name == "cpu" else "cuda"
    given = next((key for key in GIVEN if os.environ.get(key, "").strip() not in NO_CARD), None)
    if name == "cuda":
        reason = f"{setting('device', 'cuda')} is set"
    elif given is not None:
        reason = f"this job was given a GPU ({given}={os.environ[given]})"
    else:
        return "cpu"
    built = "is built for the CPU" if torch.version.cuda is None else "finds no working driver"
    raise UserError(
        f"{reason}, but torch {torch.__version__} sees none: it {built}. Install a torch that "
        f"fits the GPU, or set {setting('device', 'cpu')}"
    )


@contextlib.contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """The arithmetic of the workflow's jobs inside another program, whose settings come back.

    No TF32, and on the CPU the deterministic algorithms (see `prepare_device`).
    """
    filling = torch.utils.deterministic
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (
        matmul.allow_tf32,
        cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        filling.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        filling.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
        torch.use_deterministic_algorithms(before[2], warn_only=before[3])
        filling.fill_uninitialized_memory = before[4]  # type: ignore[attr-defined]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
OWN_MAPPING = 30 << 20  # bytes; glibc allows 32 MiB at most


def _keep_memory() -> None:
    """Have glibc keep what is freed for the next step's tensors instead of giving it back.

    By default every large tensor is a new mapping, whose pages the kernel clears one by one: 6 to
    20 % of a training step (ResNet-50, 64 and 256 pixels). Kept are tensors of up to `OWN_MAPPING`
    bytes: larger ones leave gaps in the heap. With them debiasing a ResNet-50 of 224 pixels in
    batches of 32 took 5,896 MiB in fp32, without them 4,248. Other C libraries do as they like.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)  # no smaller tensor gets a mapping of its own
        mallopt(M_TRIM_THRESHOLD, -1)  # and the heap is never cut


def place(classifier: Classifier, device: torch.device, compute: Compute) -> Classifier:
    """The classifier on the device, in the memory format of the settings.

    A user's network that cannot be in that one is in rows (layouts.py).
    """
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    placed = classifier.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    layouts.placed(placed)
    return placed


def take_card() -> None:
    """Leave this process one card that no other job on this machine has taken.

    A process that sees several cards starts on the first, as would every other. SLURM shows a job
    its own card only, and there is nothing to choose. To be called before CUDA is first used,
    which is when CUDA_VISIBLE_DEVICES is read.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        cards = [str(index) for index in range(torch.cuda.device_count())]
    else:
        cards = [card.strip() for card in named.split(",") if card.strip()]
    if len(cards) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = free_card(cards, lock_folder())


def lock_folder() -> Path:
    """A folder of this user alone, so that nobody can plant a link where a lock should be.

    XDG_RUNTIME_DIR where there is one, else a folder below the temporary one.

    Raises:
        UserError: it exists and is somebody else's, open to others, or no folder.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = bool(runtime) and Path(runtime).is_dir() and os.access(runtime, os.W_OK)
    folder = Path(runtime if usable else tempfile.gettempdir()) / f"swift-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.getuid():
        raise UserError(
            f"{folder}, where the locks of the GPUs belong, is not a folder of this user alone: "
            "remove it, or set TMPDIR to another folder"
        )
    return folder


def free_card(cards: list[str], folder: Path) -> str:
    """The first of the cards that the fewest jobs hold, held from now on until this process ends.

    A card has a lock file for its first job, its second, and so on, of this user; the system lets
    go of a lock however a process ends.

    Args:
        cards: as CUDA_VISIBLE_DEVICES names them.
        folder: of the lock files.
    """
    for place in itertools.count(1):
        for card in cards:
            name = f"card-{card.replace('/', '-')}-job-{place}.lock"
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            lock = os.open(folder / name, flags, 0o600)  # stays open
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return card
    raise AssertionError("unreachable")
