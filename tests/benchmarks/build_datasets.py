"""Measure the cost of building a dataset, and check that memory does not grow with the number of images.

    python tests/benchmarks/build_datasets.py                                # both parts
    python tests/benchmarks/build_datasets.py --part pairs --rows 24 5000    # only the comparison, at these sizes

Part `pairs` compares a build with what `datasets` alone does: `load_dataset("imagefolder")` and `save_to_disk`. The
data are the same: JPEG files of 256 x 256 pixels in folders of classes. Every run is a new process with a new and
empty `HF_HOME`, timed from start to exit. The commands take turns, in reversed order every other time. Memory is
sampled in an additional first run, which is not timed. The ratio is the time of `datasets` divided by that of the
command, both medians, so a command with a ratio above 1 is faster. A build does more than `datasets`: it decodes every
image, holds out images for evaluation, finds leaks, draws the partition, and writes checksums. 24 rows show the cost
of starting.

Part `memory` draws FGVC-Aircraft folders of 250 and 1,000 photographs with banners, of ten manufacturers and about
1024 x 700 pixels, and builds all configurations of Fed-FGVC from each. The script fails if the peaks differ by more
than 10 %.

Memory is that of a process and its workers, sampled every 20 ms: the sum of their proportional set sizes, which count
a shared page once (on Linux; elsewhere the sum of their unique set sizes, which leaves out shared pages).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from bench import print_table
from PIL import Image
from tqdm import tqdm

from raw_fgvc import raw_lines


MANUFACTURERS = [f"Manufacturer {letter}" for letter in "ABCDEFGHIJ"]
CONFIGS = (
    "noniid",
    "noniid-10",
    "noniid-5",
    "iid",
    "iid-10",
    *(f"dirichlet-{a}" for a in ("0.05", "0.1", "0.5", "1")),
)
BANNER = 20

BUILD = """
import sys
from fedvlm_hf.building.builders.fed_fgvc import FedFGVC
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions

raw, out, configs, num_workers = sys.argv[1:]
build_dataset(FedFGVC(), raw, out, WriteOptions(configs=configs, num_workers=int(num_workers)))
"""


FEDVLM = (sys.executable, "-m", "fedvlm_hf.cli")
IMAGEFOLDER = """
import sys
from datasets import load_dataset

load_dataset("imagefolder", data_dir=sys.argv[1]).save_to_disk(sys.argv[2])
"""
CLIENTS, CLASSES, SIDE = 8, 10, 256


def contestants(raw: Path, out: Path, num_workers: int) -> dict[str, list[str]]:
    """Return the commands that are compared, the reference first."""
    build = [*FEDVLM, "build", "custom", "--raw", str(raw), "--out", str(out), "--num_workers", str(num_workers)]
    divide = [*FEDVLM, "partition", "--from", str(pooled(raw)), "--out", str(out), "--num_workers", str(num_workers)]
    return {
        "imagefolder, save_to_disk": [sys.executable, "-c", IMAGEFOLDER, str(raw), str(out)],
        "build custom": build,
        "build custom --configs noniid": [*build, "--configs", "noniid"],
        "partition --from --iid": [*divide, "--iid", "--num_clients", str(CLIENTS)],
    }


def compare(folder: Path, num_rows: int, repeats: int, num_workers: int) -> list[list[object]]:
    """Run all commands on the same images, and return a row of the table for each."""
    raw, out = write_classes(folder / f"raw-{num_rows}", num_rows), folder / "out"
    commands = contestants(raw, out, num_workers)
    peaks = {name: run_fresh(command, out, sample=True)[0] for name, command in commands.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats):
        for name in list(commands)[:: -1 if repeat % 2 else 1]:
            seconds[name].append(run_fresh(commands[name], out)[1])
    shutil.rmtree(raw)
    shutil.rmtree(pooled(raw))
    reference = median(seconds[next(iter(commands))])
    return [
        [
            f"{num_rows}: {name}",
            f"{min(taken):.2f}",
            f"{median(taken):.2f}",
            f"{reference / median(taken):.2f}",
            f"{peaks[name] / 2**20:.0f}",
        ]
        for name, taken in seconds.items()
    ]


def run_fresh(command: list[str], out: Path, sample: bool = False) -> tuple[int, float]:
    """Run a command with an empty cache, remove what it wrote, and return its peak memory and its duration."""
    with tempfile.TemporaryDirectory(dir=out.parent) as home:
        result = run(command, {**os.environ, "HF_HOME": home}, sample)
    shutil.rmtree(out)
    return result


def write_classes(folder: Path, num_rows: int) -> Path:
    """Write one folder per client, with one folder of images per class in each; and the same files by class alone."""
    rng = np.random.default_rng(0)
    for row in tqdm(range(num_rows), desc="drawing", unit="image"):
        path = folder / f"site_{row % CLIENTS}" / f"class_{row % CLASSES}" / f"{row:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        texture(rng, SIDE, SIDE).save(path, quality=90)
        same = pooled(folder) / path.parent.name / path.name
        same.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, same)
    return folder


def pooled(folder: Path) -> Path:
    """Return the folder that has the images by class, not by client."""
    return folder.with_name(f"{folder.name}-pooled")


def write_tree(folder: Path, num_images: int) -> Path:
    """Write the official layout. The photographs have the texture, and therefore the size in bytes, of real ones."""
    per_name = num_images // len(MANUFACTURERS)
    # Two thirds are for training, while the official parts are equal, so that 250 images are enough for all clients
    counts = {"train": per_name - 2 * (per_name // 6), "val": per_name // 6, "test": per_name // 6}
    images = folder / "data" / "images"
    images.mkdir(parents=True)
    (folder / "data" / "manufacturers.txt").write_text("".join(f"{name}\n" for name in MANUFACTURERS))
    lines = raw_lines(MANUFACTURERS, counts)
    for part, found in lines.items():
        (folder / "data" / f"images_manufacturer_{part}.txt").write_text("".join(f"{line}\n" for line in found))
    rng = np.random.default_rng(0)
    for line in tqdm([line for found in lines.values() for line in found], desc="drawing", unit="image"):
        photograph(rng).save(images / f"{line[:7]}.jpg", quality=90)
    return folder


def photograph(rng: np.random.Generator) -> Image.Image:
    """Draw an image with a white banner below."""
    width, height = 1024, int(rng.integers(660, 740))
    image = texture(rng, width, height)
    image.paste((255, 255, 255), (0, height - BANNER, width, height))
    return image


def texture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw coarse shapes with fine noise."""
    shapes = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-14, 15, (height, width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(np.asarray(shapes) + noise, 0, 255).astype(np.uint8))


def build(raw: Path, out: Path, configs: str, num_workers: int) -> tuple[int, float]:
    """Build a dataset in a new process, and return its peak memory in bytes and its duration in seconds."""
    return run([sys.executable, "-c", BUILD, str(raw), str(out), configs, str(num_workers)], dict(os.environ), True)


def run(command: list[str], environment: dict[str, str], sample: bool) -> tuple[int, float]:
    """Run a command, and return its peak memory in bytes, 0 if not sampled, and its duration in seconds."""
    start, peak = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while sample and process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.02)
        process.wait()
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")
    return peak, seconds


def memory(pid: int) -> int:
    """Return the memory in bytes of a process and its children."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            info = process.memory_full_info()
            total += getattr(info, "pss", info.uss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("pairs", "memory"), help="Only this part.")
    parser.add_argument("--rows", type=int, nargs="+", default=[24, 5000, 20000], help="Numbers of rows to compare.")
    parser.add_argument("--repeats", type=int, default=3, help="How often each command is timed.")
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000], help="Numbers of images for memory.")
    parser.add_argument("--configs", default=",".join(CONFIGS), help="Configurations for memory.")
    parser.add_argument("--num_workers", type=int, default=psutil.cpu_count(), help="Number of processes.")
    parser.add_argument("--folder", help="Where to write the temporary files.")
    options = parser.parse_args()
    packages = ", ".join(f"{package} {version(package)}" for package in ("datasets", "pyarrow", "pillow"))
    print(f"{packages}; {options.num_workers} processes.\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.part != "memory":
            print_pairs(Path(folder), options)
        if options.part != "pairs":
            print_memory(Path(folder), options)


def print_pairs(folder: Path, options: argparse.Namespace) -> None:
    header = ["rows: command", "fastest s", "median s", "ratio", "peak MiB"]
    lines = [line for rows in options.rows for line in compare(folder, rows, options.repeats, options.num_workers)]
    print_table(header, lines)


def print_memory(folder: Path, options: argparse.Namespace) -> None:
    totals, by_config, peaks = [], [], []
    for num_images in options.images:
        raw, out = write_tree(folder / f"raw-{num_images}", num_images), folder / f"out-{num_images}"
        peak, seconds = build(raw, out, options.configs, options.num_workers)
        manifest = json.loads((out / "manifest.json").read_text())
        rows = manifest["num_rows"] * len(manifest["configs"])
        speed = f"{rows / seconds:.0f}"
        peaks.append(peak)
        totals.append([num_images, f"{peak / 2**20:.0f}", f"{seconds:.1f}", speed, mib(size(raw)), mib(size(out))])
        for name, config in manifest["configs"].items():
            clients = sum(split.startswith("client_") for split in config["counts"])
            on_disk = mib(size(out / "data" / name))
            by_config.append([name, num_images, clients, sum(config["counts"].values()), on_disk])
    header = ["images", "peak MiB", "seconds", "rows written per second", "download MiB", "on disk MiB"]
    print_table(header, totals)
    print()
    print_table(["configuration", "images", "clients", "rows", "on disk MiB"], by_config)
    if max(peaks) > 1.1 * min(peaks):
        raise SystemExit(f"Peak memory differs by more than 10 %: {[round(peak / 2**20) for peak in peaks]} MiB.")
    print("\nPeak memory is equal within 10 %.")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f}"


if __name__ == "__main__":
    main()
