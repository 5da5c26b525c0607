"""The body of a create request."""

from __future__ import annotations

import contextlib
import json
import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.api.envelope import MAX_ENVELOPE_BYTES, read
from nexus.kernel.errors import InvalidEnvelope, NexusError, PayloadTooLarge
from nexus.runs.model import ParentRef

PLAIN = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PARENT = "01a1fe7e-4163-7000-b669-3be770c566f6"


def envelope(text: str | bytes, *, strict: bool = True, replay_of: bytes | None = None):
    """The body read both ways: in memory, and as a map; they agree."""
    body = text if isinstance(text, bytes) else text.encode()
    small = read(body, strict=strict, inline=True, replay_of=replay_of)
    large = read(memoryview(body), strict=strict, inline=False, replay_of=replay_of)
    assert body[large.offset : large.offset + large.size_bytes] == small.inline
    assert (small.content_hash, small.overrides, small.fingerprint) == (large.content_hash, large.overrides, large.fingerprint)
    assert (small.tag, small.parent, small.unknown) == (large.tag, large.parent, large.unknown)
    return small


@pytest.mark.parametrize(
    "parameters",
    [
        '{"n":123456789012345678901234567890,"m":1.0,"e":1E400}',
        '{ "z" : 1,\t"a":\n2 }',
        '{"a":{"b":[1,2,{"c":"\\u00e4"}]}}',
        '{"ü":"日本"}',
        "{}",
    ],
)
def test_parameters_survive_byte_for_byte(parameters: str) -> None:
    """Big integers, key order, spacing and escapes of the parameters are kept as they were sent."""
    read_back = envelope('{"tag":"x", "algorithmParameters" : ' + parameters + " }")
    assert read_back.inline == parameters.encode()


def test_every_field_is_read() -> None:
    """All fields of the wire are understood; parameters may stand anywhere."""
    found = envelope(
        json.dumps(
            {
                "payloadValidFor": "1h30m",
                "parentRequest": {"algorithmName": "p", "requestId": PARENT},
                "customConfiguration": {"container": {}},
                "algorithmParameters": {"a": ":"},
                "requestApiVersion": "1.2",
                "tag": "a/b: ü",
            }
        )
    )
    assert found.parent == ParentRef(algorithm="p", run_id=PARENT)
    assert found.payload_valid_for is not None
    assert found.payload_valid_for.total_seconds() == 5400
    assert found.overrides == b'{"container": {}}'
    assert (found.tag, found.api_version) == ("a/b: ü", "1.2")


def test_null_means_not_given() -> None:
    """A field that is null is one that was not given."""
    names = ("customConfiguration", "requestApiVersion", "tag", "parentRequest", "payloadValidFor")
    found = envelope('{"algorithmParameters":{},' + ",".join(f'"{name}":null' for name in names) + "}")
    assert (found.overrides, found.api_version, found.tag, found.parent, found.payload_valid_for) == (None, "", None, None, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "invalid"),
        (b"nonsense", "JSON is malformed"),
        (b"[]", "got `array`"),
        (b"null", "got `null`"),
        (b"{}", "missing required field `algorithmParameters`"),
        (b'{"algorithmParameters":[1]}', "is an array, not an object"),
        (b'{"algorithmParameters":"x"}', "is text, not an object"),
        (b'{"algorithmParameters":null}', "is null, not an object"),
        (b'{"algorithmParameters":12}', "is a number, not an object"),
        (b'{"algorithmParameters":true}', "is true, not an object"),
        (b'{"algorithmParameters":{"a":NaN}}', "JSON is malformed"),
        (b'{"algorithmParameters":{}} x', "trailing characters"),
        (b'{"algorithmParameters":{"a":"\xff"}}', "not UTF-8"),
        (b'{"algorithmParameters":{},"x":"\xc3"}', "not UTF-8"),
        (b'{"algorithmParameters":{"a":"\\ud800"}}', "invalid"),
        (b'{"algorithmParameters":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "nested too deep"),
        (
            b'{"algorithmParameters":{},"customConfiguration":'
            + b"[" * 900
            + b"]" * 900
            + b',"x":'
            + b"[" * 50_000
            + b"]" * 50_000
            + b"}",
            "deep",
        ),
        (b'{"algorithmParameters":{},"algorithmParameters":{}}', "`algorithmParameters` is given twice"),
        (b'{"algorithmParameters":{},"tag":"a","tag":"b"}', "`tag` is given twice"),
        (b'{"algorithmParameters":{},"tag":null,"\\u0074ag":"b"}', "`tag` is given twice"),
        (b'{"algorithmParameters":{},"customConfiguration":{"container":{"a":1,"a":2}}}', "`a` is given twice"),
        (b'{"algorithmParameters":{},"parentRequest":{"algorithmName":"x"}}', "missing required field `requestId`"),
        (b'{"algorithmParameters":{},"parentRequest":{"algorithmName":"x","requestId":"1"}}', "no id of a run"),
        (b'{"algorithmParameters":{},"parentRequest":{"algorithmName":"","requestId":"%b"}}' % PARENT.encode(), "no name"),
        (b'{"algorithmParameters":{},"payloadValidFor":"soon"}', "not a duration"),
        (b'{"algorithmParameters":{},"payloadValidFor":"1ms"}', "may be from"),
        (b'{"algorithmParameters":{},"payloadValidFor":"99999h"}', "may be from"),
        (b'{"algorithmParameters":{},"tag":7}', "Expected `str"),
        (b'{"algorithmParameters":{},"tag":"a\\nb"}', "control characters"),
        (b'{"algorithmParameters":{},"tag":"a\\u0085b"}', "control characters"),
        (b'{"algorithmParameters":{},"tag":"' + b"x" * 257 + b'"}', "257 characters"),
        (b'{"algorithmParameters":{},"requestApiVersion":"' + b"x" * 65 + b'"}', "requestApiVersion"),
        (b'{"algorithmParameters":{},"tags":"a"}', "`tags` is no field"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    """Whatever is wrong with a body is an InvalidEnvelope (400) whose sentence says what."""
    for form in (body, memoryview(body)):
        with pytest.raises(InvalidEnvelope) as caught:
            read(form, strict=True, inline=isinstance(form, bytes))
        assert says in caught.value.message


def test_all_problems_are_said_at_once() -> None:
    """A request with several bad fields is told of each."""
    with pytest.raises(InvalidEnvelope) as caught:
        envelope(
            '{"algorithmParameters":{},"tag":"\\u0000","payloadValidFor":"x","parentRequest":{"algorithmName":"","requestId":""}}'
        )
    for word in ("control characters", "payloadValidFor", "algorithmName", "requestId"):
        assert word in caught.value.message


def test_v1_ignores_unknown_fields_and_names_them() -> None:
    """Where the API is lenient, unknown fields are named, not refused."""
    assert envelope('{"algorithmParameters":{},"colour":1,"b":{}}', strict=False).unknown == ("colour", "b")


def test_an_envelope_has_a_limit_of_its_own() -> None:
    """Data beside the parameters is bounded, whatever the parameters may have."""
    with pytest.raises(PayloadTooLarge):
        envelope('{"algorithmParameters":{}' + " " * (MAX_ENVELOPE_BYTES + 1) + "}")


def test_a_map_is_released() -> None:
    """Reading a mapped file keeps no hold on it, also when the body is refused."""
    for body in (
        b'{"algorithmParameters":{"a":1}}',
        b'{"algorithmParameters":[]}',
        b'{"algorithmParameters":{},"tag":"a","tag":"b"}',
    ):
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            view = memoryview(mapped)
            try:
                read(view, strict=True, inline=False)
            except InvalidEnvelope as error:
                error.__traceback__ = error.__context__ = error.__cause__ = None
            view.release()
            mapped.close()  # BufferError if anything still points into it


@pytest.mark.parametrize(
    "other",
    [
        '{"algorithmParameters":{"a":2},"tag":"t"}',
        '{"algorithmParameters":{"a": 1},"tag":"t"}',
        '{"algorithmParameters":{"a":1},"tag":"u"}',
        '{"algorithmParameters":{"a":1},"tag":"t","requestApiVersion":"1"}',
        '{"algorithmParameters":{"a":1},"tag":"t","customConfiguration":{}}',
        '{"algorithmParameters":{"a":1},"tag":"t","payloadValidFor":"1h"}',
        '{"algorithmParameters":{"a":1},"tag":"t","parentRequest":{"algorithmName":"a","requestId":"' + PARENT + '"}}',
    ],
)
def test_every_part_of_a_request_is_in_its_fingerprint(other: str) -> None:
    """Two requests that differ anywhere have different fingerprints; the order of the fields is no difference."""
    base = envelope('{"algorithmParameters":{"a":1},"tag":"t"}', replay_of=b"run").fingerprint
    assert base == envelope('{"tag":"t","algorithmParameters":{"a":1}}', replay_of=b"run").fingerprint
    assert base != envelope(other, replay_of=b"run").fingerprint
    assert base != envelope('{"algorithmParameters":{"a":1},"tag":"t"}', replay_of=b"dry").fingerprint


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever bytes come, the answer is an envelope or a NexusError."""
    with contextlib.suppress(NexusError):
        read(body, strict=False, inline=True)


@given(
    st.dictionaries(PLAIN, st.none() | st.floats(allow_nan=False, allow_infinity=False) | PLAIN, max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "tag": st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cc", "Cs")), max_size=40),
            "requestApiVersion": st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
            "customConfiguration": st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
            "surprise": st.text(max_size=5),
        },
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_any_request_keeps_its_parameters(parameters, rest, random, ascii_only) -> None:
    """For any request, in any order of fields, the parameters' bytes are those that were sent, and unknown fields are found."""
    fields = [("algorithmParameters", parameters), *rest.items()]
    random.shuffle(fields)
    raw = json.dumps(parameters, ensure_ascii=ascii_only)
    parts = [f'"{name}":{raw if name == "algorithmParameters" else json.dumps(value)}' for name, value in fields]
    body = ("{" + ", ".join(parts) + "}").encode()
    found = envelope(body, strict=False)
    assert found.inline == raw.encode()
    assert found.unknown == (("surprise",) if "surprise" in rest else ())


@pytest.mark.parametrize("where", ['"x":%s', '"customConfiguration":{"container":{"x":%s}}'])
def test_a_number_of_any_length_is_read(where: str) -> None:
    """A whole number of thousands of digits beside the parameters is no error of the service's."""
    found = envelope('{"algorithmParameters":{},' + where % ("1" * 5000) + "}", strict=False)
    assert found.inline == b"{}"


@pytest.mark.parametrize("text", ['{"algorithmParameters":{"a":"\\ud800"}}', '{"algorithmParameters":{},"tag":"\\uDC00"}'])
def test_half_a_surrogate_pair_is_named(text: str) -> None:
    """Half of a surrogate pair is no character, and the message says so and where."""
    with pytest.raises(InvalidEnvelope) as refused:
        envelope(text)
    assert f"half of a surrogate pair near byte {text.index(chr(92))}" in refused.value.message


def test_an_empty_body_is_called_empty() -> None:
    """Nothing sent is told as that."""
    with pytest.raises(InvalidEnvelope, match="the body is empty"):
        envelope("")


def test_a_field_of_the_parent_nobody_knows_is_noticed() -> None:
    """Unknown fields are found inside `parentRequest` too."""
    body = json.dumps({"algorithmParameters": {}, "parentRequest": {"algorithmName": "p", "requestId": PARENT, "stage": 1}})
    assert read(body.encode(), strict=False, inline=True).unknown == ("parentRequest.stage",)
    with pytest.raises(InvalidEnvelope, match=r"parentRequest\.stage"):
        envelope(body)


def test_the_version_of_a_request_has_no_control_characters() -> None:
    """What is shown in terminals is text."""
    with pytest.raises(InvalidEnvelope, match="control characters"):
        envelope(json.dumps({"algorithmParameters": {}, "requestApiVersion": "1\x1b[2J"}))
