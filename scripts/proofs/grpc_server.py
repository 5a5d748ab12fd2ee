"""A gRPC server for the proof: echoes of all four kinds, statuses on demand, what it was told of deadlines, and how calls end.

    grpc_server.py PORT [--tls DIRECTORY] [--streams N] [--unavailable]

Says one line when it listens, then one for each call that was waited for and ended, with the time. TERM lets calls under way end.
"""

import asyncio
import signal
import sys
import time

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

BIG = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
UNAVAILABLE = "--unavailable" in sys.argv


async def echo(request, context):
    await context.send_initial_metadata((("x-first", "a"), ("x-first-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-last", "z"), ("x-last-bin", b"\x01\x02")))
    return request


async def fail(request, context):
    number, _, text = request.decode().partition(" ")
    code = next(code for code in grpc.StatusCode if code.value[0] == int(number))
    await context.abort(code, text)


async def told(request, context):
    left = context.time_remaining()
    return b"none" if left is None or left > 1e9 else str(left).encode()


async def wait(request, context):
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        print(f"cancelled {time.time()}", flush=True)
        raise
    return b""


async def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


async def join(requests, context):
    return b"".join([part async for part in requests])


async def chat(requests, context):
    async for message in requests:
        yield message


async def who(request, context):
    return sys.argv[1].encode()


async def unavailable(request, context):
    await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


class Handlers(grpc.GenericRpcHandler):
    KINDS = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Told": grpc.unary_unary_rpc_method_handler(told),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Who": grpc.unary_unary_rpc_method_handler(who),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }

    def service(self, details):
        service, _, method = details.method[1:].partition("/")
        if service.startswith("grpc."):
            return None
        if UNAVAILABLE:
            return grpc.unary_unary_rpc_method_handler(unavailable)
        return self.KINDS.get(method)


class Health(HealthServicer):
    """Serves, and says so without a generated registration."""

    def handlers(self):
        service = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self.Check, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self.Watch, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", service)


def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


async def main():
    options = list(BIG)
    if streams := option("--streams"):
        options.append(("grpc.max_concurrent_streams", int(streams)))
    # A port that is somebody else's is an error, not shared.
    options.append(("grpc.so_reuseport", 0))
    server = grpc.aio.server(options=options)
    health = Health()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_generic_rpc_handlers((Handlers(), health.handlers()))
    reflection.enable_server_reflection(("grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    place = f"127.0.0.1:{sys.argv[1]}"
    if directory := option("--tls"):
        pair = [(open(f"{directory}/edge.key", "rb").read(), open(f"{directory}/edge.pem", "rb").read())]
        server.add_secure_port(place, grpc.ssl_server_credentials(pair))
    else:
        server.add_insecure_port(place)
    await server.start()
    print("listening", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(grace=10)


asyncio.run(main())
