"""Writers whose libraries are large: torch, and datasets of Hugging Face."""

from __future__ import annotations

from typing import Any

from tests.contract.writers.matrix import Fails, Group, World

torch = Group("PyTorch", "torch", heavy=True)


def weights() -> Any:
    """Return something to save."""
    import torch as library

    return {"w": library.arange(40_000, dtype=library.float64), "step": 7}


def check(w: World, name: str) -> None:
    """Load it from the local copy."""
    import torch as library

    found = library.load(w.local(name))
    assert found["step"] == 7
    assert library.equal(found["w"], weights()["w"])


@torch("`torch.save`", "a.pt")
def torch_save(w: World) -> None:
    import torch as library

    with w.open("a.pt") as file:
        library.save(weights(), file)
    check(w, "a.pt")


@torch("checkpoint in a transaction, as Lightning writes it", "last.ckpt")
def lightning_like(w: World) -> None:
    import io

    import torch as library
    from fsspec.core import url_to_fs

    made = io.BytesIO()
    library.save(weights(), made)
    fs, name = url_to_fs(w.url("last.ckpt"), **w.options)
    with fs.transaction, fs.open(name, "wb") as file:
        file.write(made.getvalue())
    check(w, "last.ckpt")


@torch(
    "distributed checkpoint, `FsspecWriter`",
    blind=Fails(
        "CheckpointException",
        "",
        leaves=("c/.metadata.tmp", "c/__0_0.distcp"),
        advice="it renames its last file, which needs CopyObject and "
        "DeleteObject: save locally, then `fs.put`",
        partly=True,
    ),
)
def torch_dcp_fsspec(w: World) -> None:
    import torch as library
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

    dcp.save(
        weights(), storage_writer=FsspecWriter(w.url("c"), **w.options), no_dist=True
    )
    found = {"w": library.zeros(40_000, dtype=library.float64), "step": 0}
    dcp.load(found, checkpoint_id=w.local("c"), no_dist=True)
    assert library.equal(found["w"], weights()["w"])


hub = Group("Hugging Face `datasets`", "datasets", heavy=True)


def rows() -> Any:
    """Return a dataset."""
    import datasets

    return datasets.Dataset.from_dict({"n": list(range(100)), "s": ["x"] * 100})


@hub(
    "`save_to_disk`",
    "t/data-00000-of-00001.arrow",
    "t/state.json",
    "t/dataset_info.json",
)
def hf_datasets_save_to_disk(w: World) -> None:
    import datasets

    rows().save_to_disk(w.url("t"), storage_options=w.options)
    assert datasets.load_from_disk(w.local("t"))["n"][:] == list(range(100))


@hub("`to_parquet`", "a.parquet")
def hf_datasets_to_parquet(w: World) -> None:
    import pyarrow.parquet as pq

    rows().to_parquet(w.url("a.parquet"), storage_options=w.options)
    assert pq.read_table(w.local("a.parquet"))["n"].to_pylist() == list(range(100))


@hub("`to_csv`", "a.csv")
def hf_datasets_to_csv(w: World) -> None:
    rows().to_csv(w.url("a.csv"), storage_options=w.options)
    assert w.bytes("a.csv").startswith(b"n,s\n0,x\n1,x\n")


@hub("`to_json`", "a.json")
def hf_datasets_to_json(w: World) -> None:
    rows().to_json(w.url("a.json"), storage_options=w.options)
    assert w.bytes("a.json").startswith(b'{"n":0,"s":"x"}\n')
