"""Drives services with a model before real model servers, with the clients of the Open Inference Protocol and with plain HTTP, and compares
every answer with the one that the client gets from the server itself. Started by scripts/proof inference."""

import os

import inference_calls
import inference_images
import inference_memory
import inference_numbers
import inference_others
import inference_tensors
import inference_values
from inference_asking import World
from inference_services import services
from inference_servers import Gateway, KServe, MLServer, TensorServer, Triton
from triton import run, same, section

SECTIONS = {
    "values": inference_values.prove,
    "calls": inference_calls.prove,
    "images": inference_images.prove,
    "tensors": inference_tensors.prove,
    "others": inference_others.prove,
    "memory": inference_memory.prove,
    "numbers": inference_numbers.prove,
}


def main():
    only = [name for name in os.environ.get("INFERENCE_ONLY", "").split(",") if name] or list(SECTIONS)
    triton, tensors = Triton(), TensorServer()
    others = [MLServer(), KServe()]
    gateway = Gateway(services(triton, tensors, others))
    started = [triton, tensors, *(others if "others" in only else [])]
    for server in started:
        server.start()
    gateway.start()
    for server in started:
        server.wait_ready()
    world = World(gateway, triton, tensors, others)
    for name in only:
        SECTIONS[name](world)
    section("what it leaves behind")
    same("requests in flight", 0, gateway.metrics("tidegate_endpoint_in_flight"))
    same("panics", 0, gateway.metrics("tidegate_panics_total"))
    same("the gateway is the same process", None, gateway.process.poll())


if __name__ == "__main__":
    run(main)
