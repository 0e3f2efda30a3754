"""Whatever a line holds, it ends in a request that can be checked, or in a reply that says what is wrong."""

from __future__ import annotations

import random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond import checks
from sessiond.decoding import BadMessage, decode_request
from sessiond.errors import Refused
from sessiond_client.wire import messages
from sessiond_client.wire.framing import LineBuffer, encode_line
from sessiond_client.wire.messages import reply_decoder
from tests.wire import golden
from tests.wire.examples import EXAMPLES

MUTATED_LINES = 200_000
MADE_LINES = 5_000
SEED = 20261121

REQUESTS = [golden.path_of(name).read_bytes() for name in sorted(EXAMPLES) if name.startswith("request-")]
NASTY = [
    *(b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\r", b"\\ud800", b"\\u0000", b"1e999", b"-0"),
    *(
        b"NaN",
        b"Infinity",
        b"9" * 400,
        b"[" * 2000,
        b'{"a":' * 2000,
        b'"' * 3,
        b"null",
        b"true",
        b"[]",
        b"{}",
    ),
    *(
        b'"type":"append",',
        b'"id":-1,',
        b'"id":1e3,',
        b'"id":18446744073709551616,',
        b'"id":"1",',
        b"\xe2\x80\xa8",
    ),
]


def take(line: bytes) -> str:
    """What the daemon does with a line before anything is stored; returns what came of it."""
    try:
        request = decode_request(line)
    except BadMessage as bad:
        refusal, request_id = bad.refusal, bad.request_id
    else:
        try:
            check(request, len(line))
        except Refused as refused:
            refusal, request_id = refused, request.id
        else:
            return "taken"
    answer = encode_line(refusal.reply(request_id))
    assert answer.count(b"\n") == 1
    reply_decoder.decode(answer)
    return refusal.code.value


def check(request: messages.AnyRequest, size: int) -> None:
    """The checks that the handlers make of a request."""
    match request:
        case messages.Append():
            checks.check_append(request, size)
            for event in request.events:
                assert b"\n" not in bytes(event.data)
                assert b"\r" not in bytes(event.data)
        case messages.Save():
            checks.check_saved(request, size)
            checks.normalised_tags(request.header.tags)
        case messages.Start():
            checks.check_meta(request.meta, "meta")
            checks.check_env(request.env, "env")
            checks.normalised_tags(request.tags)
        case messages.List() | messages.Tag():
            checks.normalised_tags(getattr(request, "tags", []))


def mutated(line: bytes, dice: random.Random) -> bytes:
    """A line with a few accidents."""
    data = bytearray(line)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if data:
                data[at % len(data)] = dice.randrange(256)
            case 1:
                data[at:at] = dice.choice(NASTY)
            case 2:
                del data[at : at + dice.randint(1, 20)]
            case 3:
                data[at:at] = data[max(0, at - dice.randint(1, 40)) : at]
            case 4:
                other = dice.choice(REQUESTS)
                data[at:] = other[dice.randrange(len(other)) :]
            case _:
                data[at:at] = bytes(dice.randrange(256) for _ in range(3))
    return bytes(data)


def test_mutated_lines_are_taken_or_refused_and_nothing_else() -> None:
    dice = random.Random(SEED)
    buffer = LineBuffer()
    outcomes: dict[str, int] = {}
    seen = made = 0

    while made < MUTATED_LINES:
        batch = [mutated(dice.choice(REQUESTS), dice) for _ in range(500)]
        made += len(batch)
        stream = b"\n".join(batch) + b"\n"
        cut = dice.randrange(len(stream))
        for line in [*buffer.feed(stream[:cut]), *buffer.feed(stream[cut:])]:
            try:
                outcome = take(line)
            except Exception as error:
                raise AssertionError(f"line {seen} of seed {SEED}: {line!r}") from error
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            seen += 1

    assert buffer.unfinished_bytes == 0
    assert seen >= MUTATED_LINES
    assert set(outcomes) <= {"taken", "invalid", "unknown_type", "too_large"}
    assert min(outcomes.get("taken", 0), outcomes.get("invalid", 0)) > MUTATED_LINES // 100, outcomes


# Words of the wire in any order, closed in the end: cheap to make, and often nearly a request.
_words = st.sampled_from(
    [
        *(
            name.removeprefix("request-").partition("-")[0]
            for name in EXAMPLES
            if name.startswith("request-")
        ),
        *("id", "session", "events", "kind", "text", "data", "producer", "n", "tags", "meta", "header", "at"),
        *("\x00", "\u2028", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "2026-11-21T09:24:31Z", "a" * 129, ""),
    ]
)
_values = st.one_of(
    st.sampled_from(["null", "true", "-1", "0", "1e999", "9" * 30, "[[]]", "{}", '[{"kind":"a"}]', "NaN"]),
    _words.map(lambda word: msgspec.json.encode(word).decode()),
)
_pairs = st.tuples(_words, _values).map(lambda pair: f"{msgspec.json.encode(pair[0]).decode()}:{pair[1]}")
_objects = st.tuples(_words, st.lists(_pairs, max_size=5)).map(
    lambda made: ('{"type":"' + made[0] + '",' + ",".join(made[1]) + "}").encode()
)
_lines = st.one_of(_objects, st.binary(max_size=60))


@settings(
    max_examples=MADE_LINES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(line=_lines)
def test_made_lines_are_taken_or_refused_and_nothing_else(line: bytes) -> None:
    buffer = LineBuffer()
    for whole in buffer.feed(line + b"\n"):
        take(whole)
    assert buffer.unfinished_bytes == 0
