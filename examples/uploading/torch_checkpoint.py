"""Checkpoints of a training: weights and the marker of the latest, both or neither."""
import json
import os

import fsspec
import torch

OPTIONS = {
    "signer": os.environ["SIGNER_URL"],
    "signer_token": "env:OSSPRESIGNED_TOKEN",
}
fs = fsspec.filesystem("osspresigned", **OPTIONS)
model = torch.nn.Linear(64, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for step in range(1, 4):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 64)).square().mean()
    loss.backward()
    optimizer.step()
    name = f"examplebucket/runs/a/step-{step:06}.pt"
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with fs.transaction:  # an exception or Ctrl-C in here publishes nothing
        with fs.open(name, "wb") as file:
            torch.save(state, file)
        # What was added last is published last.
        fs.pipe_file("examplebucket/runs/a/latest.json", json.dumps(name).encode())
print("three checkpoints stored")
