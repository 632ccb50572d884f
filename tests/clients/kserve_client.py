"""KServe's client against a server: kserve_client.py URL PHOTO. It runs with what others.txt lists."""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str, photo: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    print(
        await client.is_server_live(url),
        await client.is_server_ready(url),
        await client.is_model_ready(url, "fast"),
    )
    tensor = InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([Path(photo).read_bytes()], object), binary_data=True)
    found = await client.infer(url, InferRequest(model_name="fast", infer_inputs=[tensor]), model_name="fast")
    outputs = {output.name: output.as_numpy() for output in found.outputs}
    print(outputs["keypoints"].shape, outputs["count"].tolist())


asyncio.run(main(*sys.argv[1:]))
