import os
import pickle
import pickletools
import struct

import pytest

from fedvlm_hf.building.readers import safe_pickle
from fedvlm_hf.building.readers.plain_opcodes import ACTIONS
from fedvlm_hf.building.readers.safe_pickle import load


PLAIN_DATA = {
    "PROTO", "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "EMPTY_LIST",
    "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET",
}  # fmt: skip

# What cPickle of Python 2.7.18 writes of one ref and a dict of the other plain types, protocols 0 to 2
PYTHON_2 = {
    0: (
        b"(lp1\n(dp2\nS'image_id'\np3\nL581857L\nsS'split'\np4\nS'train'\np5\nsS'sentences'\np6\n(lp7\n(dp8\nS'tokens'"
        b"\np9\n(lp10\nS'the'\np11\naS'lady'\np12\nasS'raw'\np13\nS'THE LADY'\np14\nsS'sent_id'\np15\nI0\nsS'sent'\n"
        b"p16\nS'the lady'\np17\nsa(dp18\ng9\n(lp19\nVcaf\xe9\np20\nasg13\nS'caf\\xc3\\xa9 \"it\\'s\"\\n'\np21\nsg15\n"
        b"I1\nsg16\nS'caf\\xe9'\np22\nsasS'sent_ids'\np27\n(lp28\nI0\naI1\nasa(dp30\nS'x'\n(I1\ntp31\nsS'r'\nI70000\n"
        b"sS'e'\n(tsS't'\n(I01\nI00\ntp32\nsS'f'\nF0.5\nsS'y'\n(I1\nI2\nI3\nI4\ntp33\nsS'big'\np34\n"
        b"L1180591620717411303424L\nsS'neg'\np35\nI-3\nsS'n'\nNsa."
    ),
    1: (
        b"]q\x01(}q\x02(U\x08image_idq\x03L581857L\nU\x05splitq\x04U\x05trainq\x05U\tsentencesq\x06]q\x07(}q\x08("
        b"U\x06tokensq\t]q\n(U\x03theq\x0bU\x04ladyq\x0ceU\x03rawq\rU\x08THE LADYq\x0eU\x07sent_idq\x0fK\x00U\x04sentq"
        b'\x10U\x08the ladyq\x11u}q\x12(h\t]q\x13X\x05\x00\x00\x00caf\xc3\xa9q\x14ah\rU\rcaf\xc3\xa9 "it\'s"\nq\x15h'
        b"\x0fK\x01h\x10U\x04caf\xe9q\x16ueU\x08sent_idsq\x1b]q\x1c(K\x00K\x01eu}q\x1e(U\x01x(K\x01tq\x1fU\x01r"
        b"Jp\x11\x01\x00U\x01e)U\x01t(I01\nI00\ntU\x01fG?\xe0\x00\x00\x00\x00\x00\x00U\x01y(K\x01K\x02K\x03K\x04tq "
        b'U\x03bigq!L1180591620717411303424L\nU\x03negq"J\xfd\xff\xff\xffU\x01nNue.'
    ),
    2: (
        b"\x80\x02]q\x01(}q\x02(U\x08image_idq\x03\x8a\x03\xe1\xe0\x08U\x05splitq\x04U\x05trainq\x05U\tsentencesq\x06]"
        b"q\x07(}q\x08(U\x06tokensq\t]q\n(U\x03theq\x0bU\x04ladyq\x0ceU\x03rawq\rU\x08THE LADYq\x0eU\x07sent_idq\x0f"
        b"K\x00U\x04sentq\x10U\x08the ladyq\x11u}q\x12(h\t]q\x13X\x05\x00\x00\x00caf\xc3\xa9q\x14ah\rU\rcaf\xc3\xa9 "
        b'"it\'s"\nq\x15h\x0fK\x01h\x10U\x04caf\xe9q\x16ueU\x08sent_idsq\x1b]q\x1c(K\x00K\x01eu}q\x1e(U\x01xK\x01\x85'
        b"q\x1fU\x01rJp\x11\x01\x00U\x01e)U\x01t\x88\x89\x86U\x01fG?\xe0\x00\x00\x00\x00\x00\x00U\x01y(K\x01K\x02K\x03"
        b'K\x04tq U\x03bigq!\x8a\t\x00\x00\x00\x00\x00\x00\x00\x00@U\x03negq"J\xfd\xff\xff\xffU\x01nNue.'
    ),
}


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        path = tmp_path / "refs.p"
        path.write_bytes(content)
        return load(path)

    return read


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_2s_own_pickles_are_read(read, protocol):
    """`'caf\\xc3\\xa9'` is UTF-8; `'caf\\xe9'` is not, and is Latin-1 then; `u'caf\\xe9'` is text already."""
    ref, others = read(PYTHON_2[protocol])
    assert ref == {
        "image_id": 581857,
        "split": "train",
        "sentences": [
            {"tokens": ["the", "lady"], "raw": "THE LADY", "sent_id": 0, "sent": "the lady"},
            {"tokens": ["café"], "raw": 'café "it\'s"\n', "sent_id": 1, "sent": "café"},
        ],
        "sent_ids": [0, 1],
    }
    assert others == {
        "f": 0.5, "n": None, "t": (True, False), "big": 2**70, "neg": -3, "r": 70000, "e": (), "x": (1,),
        "y": (1, 2, 3, 4),
    }  # fmt: skip
    assert others["t"][0] is True


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_3s_pickles_are_read_as_pickle_reads_them(read, protocol):
    shared = ["shared"]
    value = {
        "ints": [0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**31), -(2**40), 2**3000],
        "floats": [0.0, -1.5, 1e300],
        "texts": ["", "a\nb\\u0041'\"", "日本", "x" * 300, "𝄞"],
        "nested": [shared, shared, {"k": (shared, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}, [], {}],
        "more": [True, False, None, list(range(3000)), {str(k): k for k in range(2500)}],
    }
    found = read(pickle.dumps(value, protocol))
    assert found == value
    assert found["nested"][0] is found["nested"][1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"T\x03\x00\x00\x00abc.", "abc"),  # BINSTRING
        (b"\x8b\x02\x00\x00\x00\x00\x01.", 256),  # LONG4
        (b"(S'a'\nI1\nd.", {"a": 1}),  # DICT
        (b"(I1\nI2\nl.", [1, 2]),  # LIST with its items
        (b"]r\x00\x01\x00\x00j\x00\x01\x00\x00\x86.", ([], [])),  # LONG_BINPUT, LONG_BINGET
        (b'S"it\'s"\n.', "it's"),
    ],
)
def test_opcodes_that_picklers_rarely_write(read, content, expected):
    assert read(content) == expected


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_code_is_refused_and_not_executed(read, tmp_path, protocol):
    """`pickle.loads` executes the same bytes, so the test would notice an execution."""
    marker = tmp_path / "ran"
    content = pickle.dumps([{"ref_id": 1}, Evil(f"touch '{marker}'")], protocol)
    with pytest.raises(
        ValueError, match=r"refs\.p, byte \d+: the pickle has the opcode GLOBAL, .*Nothing was executed"
    ):
        read(content)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()


@pytest.mark.parametrize(
    ("attack", "refused"),
    [
        (b"cos\nsystem\n(S'touch MARKER'\ntR.", "byte 0: the pickle has the opcode GLOBAL,"),
        (b"}S'a'\nI1\nscos\nsystem\nb.", "byte 10: the pickle has the opcode GLOBAL,"),
        (b"(S'touch MARKER'\nios\nsystem\n.", "the pickle has the opcode INST,"),
        (b"((S'x'\no.", "byte 7: the pickle has the opcode OBJ,"),
        (b"](I1\nI2\nR.", "byte 8: the pickle has the opcode REDUCE,"),
        (b"}}b.", "byte 2: the pickle has the opcode BUILD,"),
        (b"N)\x81.", "byte 2: the pickle has the opcode NEWOBJ,"),
        (b"\x82\x01.", "byte 0: the pickle has the opcode EXT1,"),
        (b"Ps\n.", "byte 0: the pickle has the opcode PERSID,"),
        (b"NQ.", "byte 1: the pickle has the opcode BINPERSID,"),
    ],
)
def test_hand_made_attacks_are_refused(read, tmp_path, attack, refused):
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match=refused):
        read(attack.replace(b"MARKER", str(marker).encode()))
    assert not marker.exists()


@pytest.mark.parametrize("opcode", [o for o in pickletools.opcodes if o.name not in PLAIN_DATA], ids=lambda o: o.name)
def test_every_other_opcode_is_refused_by_name(read, opcode):
    with pytest.raises(ValueError, match=rf"byte 1: the pickle has the opcode {opcode.name}, but only plain data"):
        read(b"N" + opcode.code.encode("latin-1") + b"\x00" * 16)


def test_only_opcodes_for_plain_data_are_known():
    assert set(ACTIONS) | {"STOP"} == PLAIN_DATA


def test_a_byte_that_is_not_an_opcode_is_refused(read):
    with pytest.raises(ValueError, match=r"byte 0: the pickle has the opcode byte b'\\xff'"):
        read(b"\xff")


def test_later_protocols_are_named(read):
    for protocol in (3, 4, 5):
        with pytest.raises(
            ValueError, match=rf"byte 0: damaged at PROTO \(.*protocol {protocol}; supported are 0 to 2"
        ):
            read(pickle.dumps([1], protocol))


@pytest.mark.parametrize("protocol", [0, 2])
def test_every_cut_is_found(read, protocol):
    content = PYTHON_2[protocol]
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"refs\.p, byte \d+: damaged"):
            read(content[:end])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0: damaged at its end"),
        (b".", "byte 0: damaged at STOP .*too few values"),
        (b"NN.", "data are left over"),
        (b"N.N.", "data are left over"),
        (b"(N.", "data are left over"),
        (b"a.", "byte 0: damaged at APPEND"),
        (b"NNa.", "byte 2: damaged at APPEND .*TypeError"),
        (b"N(Ne.", "byte 3: damaged at APPENDS .*TypeError"),
        (b"]I0\nNs.", "damaged at SETITEM"),
        (b"}]Ns.", "damaged at SETITEM .*unhashable"),
        (b"}(Nu.", "damaged at SETITEMS"),
        (b"(NNNd.", "damaged at DICT"),
        (b"e.", "damaged at APPENDS"),
        (b"g7\n.", "damaged at GET .*KeyError: 7"),
        (b"p0\n.", "damaged at PUT"),
        (b"Iten\n.", "damaged at INT"),
        (b"S'a\n.", "without its quotes"),
        (b"S'\n.", "without its quotes"),
        (b"S'\\x'\n.", "damaged at STRING"),
        (b"X\x01\x00\x00\x00\xe9.", "damaged at BINUNICODE .*UnicodeDecodeError"),
        (b"T" + struct.pack("<i", -1) + b"abc.", "truncated"),
        (b"X\xff\xff\xff\xffabc.", "truncated"),
        (b"L" + b"9" * 5000 + b"L\n.", "damaged at LONG"),
    ],
)
def test_broken_pickles(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_depth_is_bounded_without_recursion(read):
    """32 lists in each other are read, 33 are not; 100,000 are refused like these."""
    assert read(b"]" * 32 + b"a" * 31 + b".")
    for depth in (33, 100_000):
        with pytest.raises(ValueError, match="deeper than 32 levels"):
            read(b"]" * depth + b"a" * (depth - 1) + b".")


def test_a_list_in_itself_is_refused(read):
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="or in themselves"):
        read(pickle.dumps(loop, 2))


def test_lists_that_share_each_other_take_no_time(read):
    """Two references to a pair of references to a pair ..., 31 levels: 2^31 paths, 31 lists."""
    value: list = []
    for _ in range(31):
        value = [value, value]
    assert len(read(pickle.dumps(value, 2))) == 2


def test_files_are_missing_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no file .*none\.p"):
        load(tmp_path / "none.p")
    (tmp_path / "large.p").write_bytes(pickle.dumps("x" * 200, 2))
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"large\.p has 2\d\d bytes, but pickles of at most 100"):
        load(tmp_path / "large.p")
