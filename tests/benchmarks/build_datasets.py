"""Measure the cost of building a dataset, and check that memory does not grow with the number of images.

    python tests/benchmarks/build_datasets.py

It draws FGVC-Aircraft folders of 250 and 1,000 photographs with banners, of ten manufacturers and about 1024 x 700
pixels, and builds all configurations of Fed-FGVC from each. Memory is that of the process and its workers, sampled
every 20 ms: the sum of their proportional set sizes, which count a shared page once (on Linux; elsewhere the sum of
their unique set sizes, which leaves out shared pages). The script fails if the peaks differ by more than 10 %.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

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
    """Draw coarse shapes with fine noise, and a white banner below."""
    width, height = 1024, int(rng.integers(660, 740))
    shapes = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-14, 15, (height, width, 1), dtype=np.int16)
    image = Image.fromarray(np.clip(np.asarray(shapes) + noise, 0, 255).astype(np.uint8))
    image.paste((255, 255, 255), (0, height - BANNER, width, height))
    return image


def build(raw: Path, out: Path, configs: str, num_workers: int) -> tuple[int, float]:
    """Build a dataset in a new process, and return its peak memory in bytes and its duration in seconds."""
    command = [sys.executable, "-c", BUILD, raw, out, configs, num_workers]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([str(part) for part in command]) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"The build of {raw} failed.")
    return peak, time.perf_counter() - start


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
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000], help="Numbers of images.")
    parser.add_argument("--configs", default=",".join(CONFIGS), help="Configurations.")
    parser.add_argument("--num_workers", type=int, default=psutil.cpu_count(), help="Number of processes.")
    options = parser.parse_args()
    totals, by_config, peaks = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for num_images in options.images:
            raw = write_tree(Path(folder, f"raw-{num_images}"), num_images)
            out = Path(folder, f"out-{num_images}")
            peak, seconds = build(raw, out, options.configs, options.num_workers)
            manifest = json.loads((out / "manifest.json").read_text())
            rows = manifest["num_rows"] * len(manifest["configs"])
            on_disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            in_raw = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file())
            peaks.append(peak)
            totals.append(
                [
                    num_images,
                    f"{peak / 2**20:.0f}",
                    f"{seconds:.1f}",
                    f"{rows / seconds:.0f}",
                    mib(in_raw),
                    mib(on_disk),
                ]
            )
            for name, config in manifest["configs"].items():
                size = sum(path.stat().st_size for path in (out / "data" / name).glob("*.parquet"))
                clients = sum(split.startswith("client_") for split in config["counts"])
                by_config.append([name, num_images, clients, sum(config["counts"].values()), mib(size)])
    header = ["images", "peak MiB", "seconds", "rows written per second", "download MiB", "on disk MiB"]
    print_table(header, totals)
    packages = ", ".join(f"{package} {version(package)}" for package in ("datasets", "pyarrow", "pillow"))
    print(f"\n{packages}; {options.num_workers} processes.")
    print_table(["configuration", "images", "clients", "rows", "on disk MiB"], by_config)
    if max(peaks) > 1.1 * min(peaks):
        raise SystemExit(f"Peak memory differs by more than 10 %: {[round(peak / 2**20) for peak in peaks]} MiB.")
    print("\nPeak memory is equal within 10 %.")


def mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f}"


if __name__ == "__main__":
    main()
